//! Machines that share a folder which changes in the midst of a look.

use super::*;

const NAMES: [&str; 3] = ["first", "new", "then"];

/// Three machines that share a folder. Two have what is in it; for `new` nothing could be published yet.
fn world() -> World {
    let world = World::of(&NAMES);
    let mut toml = "[server]\naddress = \"x\"\n[defaults]\nsource = \"shared\"\n".to_owned();
    for name in NAMES {
        toml += &format!("[hosts.{name}]\n");
    }
    world.write(FILE_NAME, &toml);
    world.write("shared/changed.nix", "1");
    world.write("shared/kept.nix", "1");
    world.write("shared/configuration.nix", "1");
    // No folder, so that this machine has a problem.
    world.write("bento-secrets/new", "");
    world
}

impl World {
    fn all(&self) -> [Option<GenerationId>; 3] {
        NAMES.map(|name| {
            let state = self.state.host(&name.parse().unwrap());
            let published = Published::read(&state).unwrap();
            published.map(|published| published.generation)
        })
    }

    /// What the folder makes now of each.
    fn all_made(&self) -> [Option<GenerationId>; 3] {
        let forecast = Forecast::make(self.config.path(), &[]).unwrap();
        NAMES.map(|name| {
            let prospect = forecast.machines[&name.parse().unwrap()].as_ref();
            prospect.map(|prospect| prospect.manifest.generation())
        })
    }

    /// One look, in the midst of which something is done: everything was looked at, and nothing written. Whether
    /// something hasn't settled.
    fn look_while(&mut self, change: impl FnOnce(&World)) -> bool {
        self.instant += SETTLE_TIME;
        let now = Timestamp::now();
        let mut cycle = self.publisher.begin(now, self.instant);
        let folder = cycle.folder.take().unwrap();
        let (state, fleet) = (self.state.clone(), self.publisher.fleet().unwrap().clone());
        let look = Look {
            state: &state,
            fleet: &fleet,
            folder: &folder,
            now,
            instant: self.instant,
        };
        let cases = self.publisher.survey(&look);
        change(self);
        self.publisher.issue(&look, cases).unsettled
    }
}

#[test]
fn machines_that_share_a_file_which_changes_in_the_midst_of_a_look_wait_together() {
    let mut world = world();
    world.look();
    let before = world.all();
    assert!(before[0].is_some() && before[1].is_none() && before[2].is_some());
    fs::remove_file(world.config.path().join("bento-secrets/new")).unwrap();
    world.write("shared/changed.nix", "2");
    assert!(world.look_while(|_| ()), "it hasn't settled");
    assert_eq!(world.all(), before);
    // Only the new machine has to read it: the others have it.
    assert!(world.look_while(|world| world.write("shared/kept.nix", "2")));
    assert_eq!(world.all(), before, "some are ahead");
    for name in NAMES {
        let state = world.state.host(&name.parse().unwrap());
        let publications = fs::read_dir(state.publications()).unwrap();
        assert!(publications.count() <= 2, "{name} keeps half a publication");
    }
    world.look();
    assert_eq!(world.all(), world.all_made());
}

#[test]
fn all_machines_get_what_lay_in_their_folder_in_one_look() {
    let mut world = world();
    world.look();
    fs::remove_file(world.config.path().join("bento-secrets/new")).unwrap();
    world.write("shared/changed.nix", "2");
    assert!(world.look_while(|_| ()), "it hasn't settled");
    let seen = world.all_made();
    let unsettled = world.look_while(|world| world.write("shared/later.nix", "1"));
    assert!(!unsettled);
    assert_eq!(world.all(), seen);
    world.look();
    assert_eq!(world.all(), world.all_made());
    assert_ne!(world.all(), seen);
}
