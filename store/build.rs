//! A new migration file must rebuild the list that is compiled in.

fn main() {
    println!("cargo::rerun-if-changed=../migrations/sqlite");
}
