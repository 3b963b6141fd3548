//! The client's settings: what is accepted can be used.

#![no_main]

use bento_client::settings::Settings;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Settings::parse(text) {
        Ok(settings) => {
            assert!(!settings.servers.is_empty());
            assert!(
                settings
                    .servers
                    .iter()
                    .all(|server| !server.host_keys.is_empty())
            );
            assert!(settings.identity_file.is_absolute());
            assert!(settings.rollback.after.duration() > settings.confirm.grace.duration());
            assert!(!settings.timeouts.connect.duration().is_zero());
        }
        Err(error) => assert!(!format!("{error:#}").is_empty()),
    }
});
