//! One shape of progress for everything long that is done here.

/// How far a long piece of work got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Things done: blocks of a CAR, or files, directories and symbolic links of a tree.
    pub items: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Progress {
    pub(crate) fn add(&mut self, bytes: u64, tell: &mut (dyn FnMut(Progress) + Send)) {
        self.bytes += bytes;
        tell(*self);
    }

    pub(crate) fn item(&mut self, bytes: u64, tell: &mut (dyn FnMut(Progress) + Send)) {
        self.items += 1;
        self.add(bytes, tell);
    }
}
