//! A model of a disk: what has certainly reached it, and what a power loss may drop.
//!
//! The rules are those of POSIX, not those of one file system. Bytes of a file are certain after an fsync of the file, names
//! in a folder after an fsync of the folder. Until then every write may be whole, torn, missing or a run of NULs, and every
//! change of a name may have happened or not, in any order; a rename happens as a whole (Pillai et al., OSDI 2014).
//!
//! Owns the model and the states it can be found in. Refuses a trace that does not explain what lies in the folder.

use super::trace::{Change, Kind};
use crate::chance::Chance;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    File(usize),
    Folder(usize),
    Link(String),
}

/// A change of a file's bytes that no fsync has covered.
#[derive(Debug, Clone)]
enum Bytes {
    Put(usize, Vec<u8>),
    Cut(usize),
}

#[derive(Debug, Clone, Default)]
struct File {
    certain: Vec<u8>,
    pending: Vec<Bytes>,
}

type Names = BTreeMap<String, Node>;

/// Changes of names that happen as a whole: folder, name, and what the name then stands for.
type NameChange = Vec<(usize, String, Option<Node>)>;

/// The disk.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    files: Vec<File>,
    /// The names that are certain; folder 0 is the root.
    folders: Vec<Names>,
    pending: Vec<NameChange>,
    /// The names as the processes see them.
    seen: Vec<Names>,
    /// Which file or folder an inode is.
    inodes: HashMap<u64, Node>,
}

/// How likely it is that a change that no fsync has covered is found.
#[derive(Debug, Clone, Copy)]
pub struct Luck {
    /// Changes of names that happened, in percent.
    pub names: usize,
    /// Writes that are whole, in percent.
    pub whole: usize,
    /// Of the others, those that are torn, in percent; the rest is missing, or NULs.
    pub torn: usize,
}

fn apply(bytes: &mut Vec<u8>, change: &Bytes) {
    match change {
        Bytes::Put(at, data) => {
            if bytes.len() < at + data.len() {
                bytes.resize(at + data.len(), 0);
            }
            bytes[*at..at + data.len()].copy_from_slice(data);
        }
        Bytes::Cut(len) => bytes.resize(*len, 0),
    }
}

impl Disk {
    /// The disk as it lies there, all of it certain.
    pub fn of(root: &Path) -> Self {
        let mut disk = Self { folders: vec![Names::new()], ..Self::default() };
        disk.load(root, 0);
        disk.seen = disk.folders.clone();
        disk
    }

    fn load(&mut self, path: &Path, folder: usize) {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let meta = fs::symlink_metadata(&path).unwrap();
            let node = if meta.is_dir() {
                self.folders.push(Names::new());
                let node = self.folders.len() - 1;
                self.load(&path, node);
                Node::Folder(node)
            } else if meta.is_symlink() {
                Node::Link(fs::read_link(&path).unwrap().to_str().unwrap().to_owned())
            } else {
                self.files.push(File { certain: fs::read(&path).unwrap(), pending: Vec::new() });
                Node::File(self.files.len() - 1)
            };
            self.inodes.insert(meta.ino(), node.clone());
            self.folders[folder].insert(name, node);
        }
    }

    /// The folder and the last name of a path, as the processes see it.
    fn place(&self, path: &str) -> (usize, String) {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let folder =
            parent.split('/').filter(|part| !part.is_empty()).fold(0, |at, part| match self.seen[at].get(part) {
                Some(Node::Folder(folder)) => *folder,
                other => panic!("the trace does not explain the folder `{part}` of {path}: {other:?}"),
            });
        (folder, name.to_owned())
    }

    fn node(&self, path: &str) -> Option<Node> {
        if path.is_empty() {
            return Some(Node::Folder(0));
        }
        let (folder, name) = self.place(path);
        self.seen[folder].get(&name).cloned()
    }

    fn rename(&mut self, change: NameChange) {
        for (folder, name, node) in &change {
            match node {
                Some(node) => drop(self.seen[*folder].insert(name.clone(), node.clone())),
                None => drop(self.seen[*folder].remove(name)),
            }
        }
        self.pending.push(change);
    }

    fn file(&mut self, inode: u64, path: &str) -> &mut File {
        match self.inodes.get(&inode) {
            Some(Node::File(file)) => &mut self.files[*file],
            other => panic!("the trace does not explain the file {path}: {other:?}"),
        }
    }

    /// Takes the next change of the trace.
    pub fn take(&mut self, change: &Change) {
        let Change { kind, path, other, inode, offset, data } = change;
        match kind {
            Kind::Shown | Kind::Struck => {}
            Kind::Create | Kind::CreateFolder | Kind::Symlink => {
                let (folder, name) = self.place(path);
                let node = match kind {
                    Kind::Create => {
                        self.files.push(File::default());
                        Node::File(self.files.len() - 1)
                    }
                    Kind::CreateFolder => {
                        self.folders.push(Names::new());
                        self.seen.push(Names::new());
                        Node::Folder(self.folders.len() - 1)
                    }
                    _ => Node::Link(other.clone()),
                };
                self.inodes.insert(*inode, node.clone());
                self.rename(vec![(folder, name, Some(node))]);
            }
            Kind::Write => self.file(*inode, path).pending.push(Bytes::Put(*offset as usize, data.clone())),
            Kind::Cut => self.file(*inode, path).pending.push(Bytes::Cut(*offset as usize)),
            Kind::Sync => match self.inodes.get(inode).cloned().or_else(|| self.node(path)) {
                Some(Node::File(file)) => {
                    let file = &mut self.files[file];
                    let pending = std::mem::take(&mut file.pending);
                    for change in &pending {
                        apply(&mut file.certain, change);
                    }
                }
                Some(Node::Folder(folder)) => {
                    let (done, rest) = std::mem::take(&mut self.pending)
                        .into_iter()
                        .partition(|change| change.iter().any(|(at, ..)| *at == folder));
                    self.pending = rest;
                    let done: Vec<NameChange> = done;
                    for change in &done {
                        rename_in(&mut self.folders, change);
                    }
                }
                other => panic!("the trace does not explain the fsync of {path}: {other:?}"),
            },
            Kind::Unlink | Kind::RemoveFolder => {
                let (folder, name) = self.place(path);
                self.rename(vec![(folder, name, None)]);
            }
            Kind::Rename | Kind::Exchange | Kind::Link => {
                let (from, to) = (self.place(path), self.place(other));
                let node = self.node(path);
                let back = if *kind == Kind::Exchange { self.node(other) } else { None };
                let mut change = vec![(to.0, to.1, node)];
                if *kind != Kind::Link {
                    change.push((from.0, from.1, back));
                }
                self.rename(change);
            }
        }
    }

    /// How many changes a power loss may drop now.
    pub fn uncertain(&self) -> usize {
        self.pending.len() + self.files.iter().map(|file| file.pending.len()).sum::<usize>()
    }

    /// Writes the disk as a power loss may leave it. Without chance, as the processes see it.
    pub fn write(&self, to: &Path, mut chance: Option<(&mut Chance, Luck)>) {
        let mut folders = self.folders.clone();
        for change in &self.pending {
            if chance.as_mut().is_none_or(|(chance, luck)| chance.percent(luck.names)) {
                rename_in(&mut folders, change);
            }
        }
        self.write_folder(&folders, 0, to, &mut chance, 0);
    }

    fn write_folder(
        &self,
        folders: &[Names],
        folder: usize,
        to: &Path,
        chance: &mut Option<(&mut Chance, Luck)>,
        depth: usize,
    ) {
        // A folder that was moved may be found in both places.
        assert!(depth < 20, "a folder that lies in itself");
        fs::create_dir_all(to).unwrap();
        for (name, node) in &folders[folder] {
            let path = to.join(name);
            match node {
                Node::Folder(inner) => self.write_folder(folders, *inner, &path, chance, depth + 1),
                Node::Link(target) => std::os::unix::fs::symlink(target, &path).unwrap(),
                Node::File(file) => fs::write(&path, self.files[*file].found(chance)).unwrap(),
            }
        }
    }

    /// Fails when what lies in the folder is not what the trace says.
    pub fn explains(&self, root: &Path) {
        let copy = tempfile::tempdir().unwrap();
        self.write(copy.path(), None);
        assert_eq!(contents(copy.path()), contents(root), "the trace does not explain the folder");
    }
}

impl File {
    fn found(&self, chance: &mut Option<(&mut Chance, Luck)>) -> Vec<u8> {
        let mut bytes = self.certain.clone();
        for change in &self.pending {
            let Some((chance, luck)) = chance.as_mut() else {
                apply(&mut bytes, change);
                continue;
            };
            if chance.percent(luck.whole) {
                apply(&mut bytes, change);
            } else if let Bytes::Put(at, data) = change {
                if chance.percent(luck.torn) {
                    apply(&mut bytes, &Bytes::Put(*at, data[..chance.below(data.len())].to_vec()));
                } else if chance.percent(50) {
                    // The length arrived, the bytes did not.
                    apply(&mut bytes, &Bytes::Put(*at, vec![0; data.len()]));
                }
            }
        }
        bytes
    }
}

fn rename_in(folders: &mut [Names], change: &NameChange) {
    for (folder, name, node) in change {
        match node {
            Some(node) => drop(folders[*folder].insert(name.clone(), node.clone())),
            None => drop(folders[*folder].remove(name)),
        }
    }
}

/// Every path below a folder, with a summary of its bytes.
fn contents(root: &Path) -> BTreeMap<String, String> {
    fn walk(dir: &Path, root: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                found.insert(name, "a folder".into());
                walk(&path, root, found);
            } else if meta.is_symlink() {
                found.insert(name, format!("a link to {}", fs::read_link(&path).unwrap().display()));
            } else {
                let bytes = fs::read(&path).unwrap();
                found.insert(name, format!("{} bytes, {}", bytes.len(), tiebreak::storage::sha256(&bytes)));
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found
}
