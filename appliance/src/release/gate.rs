//! The requirements that a generation must meet before it is published, as `[publish]` in `fleet.toml` sets them.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bento_protocol::{GenerationId, HostName};

use super::{Approval, Build, FolderRecord, path};
use crate::fleet::{Publish, When};
use crate::problem::Problem;
use crate::scan::{FleetFolder, Found, Stamp};

/// The age from which a damaged record is a problem: git and cp write a file in place, and half of it is no record.
const WRITING: Duration = Duration::from_secs(2);

/// A requirement of `[publish]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// An approval by `bento deploy`.
    Approval,
    /// A build by `bento build`.
    Build,
}

/// A failed read of a record.
#[derive(Debug, PartialEq, Eq)]
pub enum RecordError {
    /// It is just being written: this file, relative to the fleet folder.
    BeingWritten(PathBuf),
    /// It is damaged.
    Damaged(Problem),
}

/// The first requirement that a generation doesn't meet; none if it may be published. Records of any other generation
/// count for nothing.
pub fn unmet(
    publish: &Publish,
    generation: GenerationId,
    approval: Option<&Approval>,
    build: Option<&Build>,
) -> Option<Requirement> {
    let is_approved = approval.is_some_and(|approval| approval.generation == generation);
    let is_built = build.is_some_and(|build| build.generation == generation);
    if publish.when == When::Deploy && !is_approved {
        Some(Requirement::Approval)
    } else if publish.require_build && !is_built {
        Some(Requirement::Build)
    } else {
        None
    }
}

impl Requirement {
    /// The problem of a machine that waits for it: a note where the machine has another generation meanwhile.
    pub fn problem(self, host: &HostName, source: &str, has_another: bool) -> Problem {
        let (what, command) = match self {
            Requirement::Approval => ("isn't approved", "deploy"),
            Requirement::Build => ("isn't built", "build"),
        };
        let advice = format!("`bento {command} {host}` publishes it");
        let problem = if has_another {
            Problem::note(source, format!("has changed, and {what} yet"), advice)
        } else {
            Problem::new(source, format!("{what} yet"), advice)
        };
        problem.of(host)
    }
}

/// Reads the record of a machine; none if there is none.
///
/// # Errors
/// When the file isn't such a record, or not yet.
pub fn read<T: FolderRecord>(
    fleet: &FleetFolder,
    host: &HostName,
) -> Result<Option<T>, RecordError> {
    T::of(fleet, host).map_err(|error| {
        let path = path::<T>(host);
        if is_young(fleet, &path) {
            RecordError::BeingWritten(path)
        } else {
            RecordError::Damaged(damaged::<T>(host, &error))
        }
    })
}

/// Whether a file was changed just now.
fn is_young(fleet: &FleetFolder, path: &Path) -> bool {
    let changed = |found: Found| Stamp::of(&found.stat).changed_at();
    let changed = fleet.find(path).ok().and_then(changed);
    changed
        .and_then(|changed| SystemTime::now().duration_since(changed).ok())
        .is_some_and(|age| age < WRITING)
}

fn damaged<T: FolderRecord>(host: &HostName, error: &io::Error) -> Problem {
    let place = path::<T>(host).display().to_string();
    let (what, advice) = match error.kind() {
        ErrorKind::PermissionDenied => (
            "can't be read by the user who runs the appliance".to_owned(),
            "let that user read it".to_owned(),
        ),
        _ => (
            format!("isn't a record of bento: {error}"),
            format!("remove it, and run `bento {} {host}`", T::COMMAND),
        ),
    };
    Problem::new(place, what, advice).of(host)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::Duration;

    use bento_protocol::Format;
    use jiff::Timestamp;

    use super::*;

    fn id(digit: char) -> GenerationId {
        digit.to_string().repeat(64).parse().unwrap()
    }

    fn approval(digit: char) -> Approval {
        Approval {
            format: Format,
            generation: id(digit),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    fn build(digit: char) -> Build {
        Build {
            format: Format,
            generation: id(digit),
            system: format!("/nix/store/{}-nixos", "0".repeat(32))
                .parse()
                .unwrap(),
            comparable: false,
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn only_records_of_exactly_this_generation_count() {
        let (approved, other) = (approval('a'), approval('b'));
        let (built, elsewhere) = (build('a'), build('b'));
        let expected = [
            // when, require_build, approval, build: the unmet requirement
            (When::Change, false, None, None, None),
            (
                When::Change,
                true,
                Some(&approved),
                None,
                Some(Requirement::Build),
            ),
            (
                When::Change,
                true,
                None,
                Some(&elsewhere),
                Some(Requirement::Build),
            ),
            (When::Change, true, None, Some(&built), None),
            (
                When::Deploy,
                false,
                None,
                Some(&built),
                Some(Requirement::Approval),
            ),
            (
                When::Deploy,
                false,
                Some(&other),
                None,
                Some(Requirement::Approval),
            ),
            (When::Deploy, false, Some(&approved), None, None),
            (
                When::Deploy,
                true,
                Some(&approved),
                None,
                Some(Requirement::Build),
            ),
            (
                When::Deploy,
                true,
                Some(&approved),
                Some(&elsewhere),
                Some(Requirement::Build),
            ),
            (
                When::Deploy,
                true,
                Some(&other),
                Some(&built),
                Some(Requirement::Approval),
            ),
            (When::Deploy, true, Some(&approved), Some(&built), None),
        ];
        for (when, require_build, approval, build, missing) in expected {
            let publish = Publish {
                when,
                require_build,
                ..Publish::default()
            };
            let found = unmet(&publish, id('a'), approval, build);
            assert_eq!(found, missing, "{publish:?} {approval:?} {build:?}");
        }
    }

    #[test]
    fn a_damaged_record_is_a_problem_with_its_file_once_it_is_no_longer_being_written() {
        let folder = tempfile::tempdir().unwrap();
        let host: HostName = "kikimora".parse().unwrap();
        let fleet = FleetFolder::open(folder.path()).unwrap();
        assert_eq!(read::<Approval>(&fleet, &host), Ok(None));
        approval('a').write(folder.path(), &host).unwrap();
        assert_eq!(read(&fleet, &host), Ok(Some(approval('a'))));
        let file = folder.path().join(path::<Approval>(&host));
        fs::write(&file, "{").unwrap();
        assert_eq!(
            read::<Approval>(&fleet, &host),
            Err(RecordError::BeingWritten(path::<Approval>(&host)))
        );
        // Its mtime doesn't matter: the kernel sets the ctime.
        File::open(&file)
            .unwrap()
            .set_modified(SystemTime::UNIX_EPOCH)
            .unwrap();
        std::thread::sleep(WRITING + Duration::from_millis(10));
        let Err(RecordError::Damaged(problem)) = read::<Approval>(&fleet, &host) else {
            panic!("it counts as a record");
        };
        let line = problem.to_string();
        assert!(
            line.starts_with(".bento/approved/kikimora.json: kikimora: isn't"),
            "{line}"
        );
        assert!(
            line.ends_with("remove it, and run `bento deploy kikimora`"),
            "{line}"
        );
    }
}
