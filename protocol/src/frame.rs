//! Link frames (see `link`).
