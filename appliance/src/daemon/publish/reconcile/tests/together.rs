//! Machines that share a folder, which changes during a pass.

use super::*;

const NAMES: [&str; 3] = ["first", "new", "then"];

/// Three machines that share a folder. Two have what is in it; for `new` nothing could be published yet.
fn appliance() -> Appliance {
    let appliance = Appliance::of(&NAMES);
    let mut toml = "[server]\naddress = \"x\"\n[defaults]\nsource = \"shared\"\n".to_owned();
    for name in NAMES {
        toml += &format!("[hosts.{name}]\n");
    }
    appliance.write(FILE_NAME, &toml);
    appliance.write("shared/changed.nix", "1");
    appliance.write("shared/kept.nix", "1");
    appliance.write("shared/configuration.nix", "1");
    // No folder, so that this machine has a problem.
    appliance.write("bento-secrets/new", "");
    appliance
}

impl Appliance {
    fn all(&self) -> [Option<GenerationId>; 3] {
        NAMES.map(|name| {
            let state = self.state.host(&name.parse().unwrap());
            let published = Published::read(&state).unwrap();
            published.map(|published| published.generation)
        })
    }

    /// The generation of each from the files as they are now.
    fn all_made(&self) -> [Option<GenerationId>; 3] {
        let preview = Preview::make(self.config.path(), &[]).unwrap();
        NAMES.map(|name| {
            let host_preview = preview.machines[&name.parse().unwrap()].as_ref();
            host_preview.map(|host_preview| host_preview.manifest.generation())
        })
    }

    /// One pass with a change after the scan, before anything is written. Whether something is unstable then.
    fn pass_with_change(&mut self, change: Option<(&str, &str)>) -> bool {
        self.instant += DEBOUNCE;
        let (now, mut result) = (Timestamp::now(), PassResult::default());
        let folder = self.reconciler.refresh(now, self.instant, &mut result);
        let fleet = self.reconciler.fleet().unwrap().clone();
        let mut pass = Pass {
            reconciler: &mut self.reconciler,
            fleet: &fleet,
            folder: &folder.unwrap(),
            now,
            instant: self.instant,
            changed: Vec::new(),
            result: &mut result,
        };
        let scans = pass.scan();
        if let Some((path, text)) = change {
            fs::write(self.config.path().join(path), text).unwrap();
        }
        pass.publish(scans);
        result.unstable
    }
}

#[test]
fn machines_that_share_a_file_which_changes_during_a_pass_wait_together() {
    let mut appliance = appliance();
    appliance.reconcile();
    let before = appliance.all();
    assert!(before[0].is_some() && before[1].is_none() && before[2].is_some());
    fs::remove_file(appliance.config.path().join("bento-secrets/new")).unwrap();
    appliance.write("shared/changed.nix", "2");
    assert!(appliance.pass_with_change(None), "it isn't stable");
    assert_eq!(appliance.all(), before);
    // Only the new machine has to read it: the others have it.
    assert!(appliance.pass_with_change(Some(("shared/kept.nix", "2"))));
    assert_eq!(appliance.all(), before, "some are ahead");
    for name in NAMES {
        let state = appliance.state.host(&name.parse().unwrap());
        let publications = fs::read_dir(state.publications()).unwrap();
        assert!(publications.count() <= 2, "{name} keeps half a publication");
    }
    appliance.reconcile();
    assert_eq!(appliance.all(), appliance.all_made());
}

#[test]
fn all_machines_get_the_files_of_one_scan() {
    let mut appliance = appliance();
    appliance.reconcile();
    fs::remove_file(appliance.config.path().join("bento-secrets/new")).unwrap();
    appliance.write("shared/changed.nix", "2");
    assert!(appliance.pass_with_change(None), "it isn't stable");
    let seen = appliance.all_made();
    let unstable = appliance.pass_with_change(Some(("shared/later.nix", "1")));
    assert!(!unstable);
    assert_eq!(appliance.all(), seen);
    appliance.reconcile();
    assert_eq!(appliance.all(), appliance.all_made());
    assert_ne!(appliance.all(), seen);
}
