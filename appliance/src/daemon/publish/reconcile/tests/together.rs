//! Machines that share a folder which changes in the midst of a input.

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

    /// What the folder makes now of each.
    fn all_made(&self) -> [Option<GenerationId>; 3] {
        let preview = Preview::make(self.config.path(), &[]).unwrap();
        NAMES.map(|name| {
            let host_preview = preview.machines[&name.parse().unwrap()].as_ref();
            host_preview.map(|host_preview| host_preview.manifest.generation())
        })
    }

    /// One input, in the midst of which something is done: everything was looked at, and nothing written. Whether
    /// something hasn't settled.
    fn look_while(&mut self, change: impl FnOnce(&Appliance)) -> bool {
        self.instant += Debounce::DEFAULT;
        let now = Timestamp::now();
        let mut cycle = self.publisher.begin(now, self.instant);
        let folder = cycle.folder.take().unwrap();
        let (state, fleet) = (self.state.clone(), self.publisher.fleet().unwrap().clone());
        let input = PassInput {
            state: &state,
            fleet: &fleet,
            folder: &folder,
            now,
            instant: self.instant,
        };
        let cases = self.publisher.scan(&input);
        change(self);
        self.publisher.stage_and_switch(&input, cases).unsettled
    }
}

#[test]
fn machines_that_share_a_file_which_changes_in_the_midst_of_a_look_wait_together() {
    let mut appliance = appliance();
    appliance.look();
    let before = appliance.all();
    assert!(before[0].is_some() && before[1].is_none() && before[2].is_some());
    fs::remove_file(appliance.config.path().join("bento-secrets/new")).unwrap();
    appliance.write("shared/changed.nix", "2");
    assert!(appliance.look_while(|_| ()), "it hasn't settled");
    assert_eq!(appliance.all(), before);
    // Only the new machine has to read it: the others have it.
    assert!(appliance.look_while(|appliance| appliance.write("shared/kept.nix", "2")));
    assert_eq!(appliance.all(), before, "some are ahead");
    for name in NAMES {
        let state = appliance.state.host(&name.parse().unwrap());
        let publications = fs::read_dir(state.publications()).unwrap();
        assert!(publications.count() <= 2, "{name} keeps half a publication");
    }
    appliance.look();
    assert_eq!(appliance.all(), appliance.all_made());
}

#[test]
fn all_machines_get_what_lay_in_their_folder_in_one_look() {
    let mut appliance = appliance();
    appliance.look();
    fs::remove_file(appliance.config.path().join("bento-secrets/new")).unwrap();
    appliance.write("shared/changed.nix", "2");
    assert!(appliance.look_while(|_| ()), "it hasn't settled");
    let seen = appliance.all_made();
    let unsettled = appliance.look_while(|appliance| appliance.write("shared/later.nix", "1"));
    assert!(!unsettled);
    assert_eq!(appliance.all(), seen);
    appliance.look();
    assert_eq!(appliance.all(), appliance.all_made());
    assert_ne!(appliance.all(), seen);
}
