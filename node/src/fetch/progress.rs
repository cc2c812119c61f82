//! What a fetch tells whoever watches.

/// One step of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<'a> {
    /// Another process fetches the same firmware; this one waits.
    Waiting,
    /// Bytes arrive.
    Downloading {
        /// The file or package.
        name: &'a str,
        /// Bytes that are here, earlier attempts' included.
        done_bytes: u64,
        /// Bytes in all, if the server says.
        total_bytes: Option<u64>,
    },
    /// A file is taken out of its package or copied.
    Unpacking {
        /// The file.
        name: &'a str,
    },
    /// A file's bytes are compared with their pinned digest.
    Verifying {
        /// The file.
        name: &'a str,
    },
    /// A file is in its place, whole and right.
    Placed {
        /// The file.
        name: &'a str,
    },
}
