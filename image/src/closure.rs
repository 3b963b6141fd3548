//! The files that a program needs from its dynamic loader: the loader itself and the libraries,
//! found as the loader finds them (ld.so(8)), with their paths in the image.
//!
//! The image has no cache of library paths (/etc/ld.so.cache): a library that the host finds only
//! through it, or in a folder that not every loader knows, is put beside the loader. Every loader
//! searches that folder by default, with any C library.

use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::elf::{Machine, Object};
use crate::host::Host;

/// A file of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its path on the host.
    pub on_host: PathBuf,
    /// Its path in the image: that of `on_host`, including symlinks, unless the file has to move.
    pub in_image: PathBuf,
}

/// A library that wasn't found.
#[derive(Debug, PartialEq, Eq)]
pub struct Missing {
    /// Its name in `DT_NEEDED`, or the path of the loader.
    pub library: String,
    /// The file that needs it, on the host.
    pub needed_by: PathBuf,
    /// The folders that were searched.
    pub searched: Vec<PathBuf>,
}

/// The files that a program needs.
#[derive(Debug)]
pub struct Closure {
    /// The program's machine.
    pub machine: Machine,
    /// The files found.
    pub parts: Vec<Part>,
    /// The files not found.
    pub missing: Vec<Missing>,
}

/// A folder to search: on the host, and where its files go in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Folder {
    on_host: PathBuf,
    in_image: PathBuf,
}

impl Folder {
    fn of(part: &Part) -> Folder {
        Folder {
            on_host: folder_of(&part.on_host).to_owned(),
            in_image: folder_of(&part.in_image).to_owned(),
        }
    }

    fn same(path: &Path) -> Folder {
        Folder {
            on_host: path.to_owned(),
            in_image: path.to_owned(),
        }
    }
}

/// A file whose libraries are still to be found.
struct Loaded {
    object: Object,
    origin: Folder,
    file: PathBuf,
    /// The folders of `DT_RPATH` of the files that need it.
    inherited: Vec<Folder>,
}

/// Finds the files that the program needs. `source` is the path at which this process reads it.
///
/// # Errors
/// When the program isn't ELF, or a file or folder can't be read. Missing libraries are no error
/// here, so that all can be named at once.
pub fn of(host: &Host, source: &Path, program: &Part) -> Result<Closure> {
    let object = Object::read(source)?;
    let mut closure = Closure {
        machine: object.machine,
        parts: Vec::new(),
        missing: Vec::new(),
    };
    let Some(interpreter) = object.interpreter.clone() else {
        if object.needed.is_empty() {
            return Ok(closure);
        }
        bail!(
            "{} needs libraries but names no loader: it isn't a program",
            source.display()
        );
    };
    let Some(loader) = host.file(&interpreter)? else {
        closure.missing.push(Missing {
            library: interpreter.display().to_string(),
            needed_by: program.on_host.clone(),
            searched: Vec::new(),
        });
        return Ok(closure);
    };
    closure.parts.push(Part {
        on_host: interpreter.clone(),
        in_image: interpreter.clone(),
    });
    let mut search = Search {
        host,
        machine: object.machine,
        everywhere: folders_beside(host, folder_of(&loader.real))?,
        names: names_of(&interpreter, &Object::read(&host.source(&loader.real))?),
    };
    let mut queue = VecDeque::from([Loaded {
        object,
        origin: Folder::of(program),
        file: program.on_host.clone(),
        inherited: Vec::new(),
    }]);
    // Breadth first, like the loader, because the first file found for a name serves all.
    while let Some(loaded) = queue.pop_front() {
        search.load_needs(&loaded, &mut closure, &mut queue)?;
    }
    Ok(closure)
}

/// The state of the search for one program.
struct Search<'a> {
    host: &'a Host,
    machine: Machine,
    everywhere: Vec<Folder>,
    /// Names already loaded; the loader doesn't search for these again.
    names: HashSet<String>,
}

impl Search<'_> {
    fn load_needs(
        &mut self,
        loaded: &Loaded,
        closure: &mut Closure,
        queue: &mut VecDeque<Loaded>,
    ) -> Result<()> {
        let object = &loaded.object;
        let runpath = expand(&object.runpath, &loaded.origin);
        let mut passed_on = if object.runpath.is_empty() {
            expand(&object.rpath, &loaded.origin)
        } else {
            Vec::new()
        };
        passed_on.extend_from_slice(&loaded.inherited);
        // DT_RUNPATH also disables the DT_RPATH of the files that need this one.
        let own = if object.runpath.is_empty() {
            &passed_on
        } else {
            &runpath
        };
        let folders: Vec<&Folder> = own.iter().chain(&self.everywhere).collect();
        for name in &object.needed {
            if self.names.contains(name) {
                continue;
            }
            match find(self.host, self.machine, name, &loaded.origin, &folders)? {
                Some((part, object)) => {
                    self.names.extend(names_of(Path::new(name), &object));
                    queue.push_back(Loaded {
                        object,
                        origin: Folder::of(&part),
                        file: part.on_host.clone(),
                        inherited: passed_on.clone(),
                    });
                    closure.parts.push(part);
                }
                None => {
                    self.names.insert(name.clone());
                    closure.missing.push(Missing {
                        library: name.clone(),
                        needed_by: loaded.file.clone(),
                        searched: folders.iter().map(|f| f.on_host.clone()).collect(),
                    });
                }
            }
        }
        Ok(())
    }
}

/// Finds one library. Files for other machines are skipped, as by the loader.
fn find(
    host: &Host,
    machine: Machine,
    name: &str,
    origin: &Folder,
    folders: &[&Folder],
) -> Result<Option<(Part, Object)>> {
    let candidates: Vec<Part> = if name.contains('/') {
        // A name with a slash is a path, and nothing is searched.
        expand(&[name.to_owned()], origin)
            .into_iter()
            .map(|path| Part {
                on_host: path.on_host,
                in_image: path.in_image,
            })
            .collect()
    } else {
        folders
            .iter()
            .map(|folder| Part {
                on_host: folder.on_host.join(name),
                in_image: folder.in_image.join(name),
            })
            .collect()
    };
    for part in candidates {
        let Some(found) = host.file(&part.on_host)? else {
            continue;
        };
        let object = Object::read(&host.source(&found.real))
            .with_context(|| format!("searching for the library {name}"))?;
        if object.machine == machine {
            return Ok(Some((part, object)));
        }
    }
    Ok(None)
}

/// The folders that every loader searches on the host; in the image their files go to the folder of
/// the loader.
fn folders_beside(host: &Host, loaders: &Path) -> Result<Vec<Folder>> {
    let mut folders = Vec::new();
    for folder in host.library_folders()? {
        folders.push(if host.follow(&folder)?.real == loaders {
            Folder::same(loaders)
        } else {
            Folder {
                on_host: folder,
                in_image: loaders.to_owned(),
            }
        });
    }
    folders.push(Folder::same(loaders));
    Ok(folders)
}

/// Replaces `$ORIGIN`, which is one folder on the host and may be another in the image. Relative
/// paths are left out, because they depend on the working directory, and so are paths with other
/// variables of the loader, whose values depend on the C library.
fn expand(paths: &[String], origin: &Folder) -> Vec<Folder> {
    let with = |path: &str, origin: &Path| {
        let origin = origin.to_string_lossy();
        PathBuf::from(
            path.replace("${ORIGIN}", &origin)
                .replace("$ORIGIN", &origin),
        )
    };
    paths
        .iter()
        .map(|path| Folder {
            on_host: with(path, &origin.on_host),
            in_image: with(path, &origin.in_image),
        })
        .filter(|folder| {
            folder.in_image.is_absolute() && !folder.in_image.to_string_lossy().contains('$')
        })
        .collect()
}

fn names_of(path: &Path, object: &Object) -> HashSet<String> {
    let file_name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let as_given = path.to_string_lossy().into_owned();
    object
        .soname
        .iter()
        .cloned()
        .chain(file_name)
        .chain([as_given])
        .collect()
}

fn folder_of(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new("/"))
}
