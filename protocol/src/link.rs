//! Link messages.
