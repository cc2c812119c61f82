//! Which data is accepted, and how faults are told.

use std::path::PathBuf;

use super::{Dataset, Row, RowKind, split};

fn read(name: &str, text: &[u8]) -> Result<Dataset, String> {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    Dataset::read(&path).map_err(|error| {
        let folder = folder.path().display().to_string() + "/";
        error.to_string().replace(&folder, "")
    })
}

#[test]
fn each_form_of_row_is_read() {
    let chat = r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}"#;
    assert_eq!(read("a.jsonl", chat.as_bytes()).unwrap().kind(), RowKind::Chat);
    let completion = r#"{"prompt":"a","completion":"b"}"#;
    assert_eq!(read("a.jsonl", completion.as_bytes()).unwrap().kind(), RowKind::Completion);
    let labelled = "{\"text\":\"a\",\"label\":\"x\"}\n\n{\"text\":\"b\",\"label\":\"y\"}\n";
    let labelled = read("a.jsonl", labelled.as_bytes()).unwrap();
    assert_eq!(labelled.rows[1].0, 3, "an empty line is counted");
    let csv = read("a.csv", b"label,text\nx,\"one\ntwo, \"\"three\"\"\"\ny,b\n").unwrap();
    let text = "one\ntwo, \"three\"".to_owned();
    assert_eq!(csv.rows[0], (2, Row::Labelled { text, label: "x".to_owned() }));
    assert_eq!(csv.rows[1].0, 4, "a row may have several lines");
}

#[test]
fn faults_are_told_with_their_line() {
    let good = "{\"text\":\"a\",\"label\":\"x\"}\n";
    let cases = [
        ("a.jsonl", format!("{good}oops"), "`a.jsonl`, line 2 is no JSON"),
        ("a.jsonl", format!("{good}{{\"text\":\"a\"}}"), "line 2 missing field `label`"),
        (
            "a.jsonl",
            format!("{good}{{\"text\":\" \",\"label\":\"y\"}}"),
            "line 2 has an empty `text`",
        ),
        (
            "a.jsonl",
            format!("{good}{{\"prompt\":\"a\",\"completion\":\"b\"}}"),
            "line 2 has not `text`",
        ),
        ("a.jsonl", "{\"question\":1}".to_owned(), "line 1 has none of `messages`"),
        ("a.jsonl", good.to_owned(), "has one label only"),
        ("a.jsonl", "\n".to_owned(), "has no rows"),
        (
            "a.jsonl",
            format!("{good}{{\"text\":\"a\",\"label\":\"y \"}}"),
            "line 2 has a label with space",
        ),
        ("a.csv", "text,class\na,x\n".to_owned(), "line 1 names the columns"),
        ("a.csv", "text,label\na,x\nb\n".to_owned(), "line 3 cannot be read"),
        ("a.txt", good.to_owned(), "is neither .jsonl nor .csv"),
        (
            "a.jsonl",
            r#"{"messages":[{"role":"user","content":"a"}]}"#.to_owned(),
            "line 1 ends with a message that is not the assistant's",
        ),
        (
            "a.jsonl",
            r#"{"messages":[{"role":"boss","content":"a"}]}"#.to_owned(),
            "line 1 unknown variant `boss`",
        ),
    ];
    for (name, text, expected) in cases {
        let error = read(name, text.as_bytes()).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let error = read("a.csv", b"text,label\na,x\n\xff,y\n").unwrap_err();
    assert!(error.contains("is not UTF-8 in line 3"), "{error}");
}

#[test]
fn labels_that_were_never_learned_are_refused() {
    let train = read("a.csv", b"text,label\na,x\nb,y\n").unwrap();
    let valid = read("b.csv", b"text,label\na,x\nb,z\n").unwrap();
    let error = valid.check_against(&train).unwrap_err().to_string();
    assert!(error.contains("line 3 has the label `z`"), "{error}");
    assert!(train.check_against(&valid).is_err());
    assert!(train.check_against(&train).is_ok());
}

#[test]
fn a_split_depends_on_the_seed_alone() {
    let rows: Vec<usize> = (0..100).collect();
    let (train, held) = split(rows.clone(), 0.1, 3);
    assert_eq!((train.len(), held.len()), (90, 10));
    assert_eq!(split(rows.clone(), 0.1, 3), (train.clone(), held.clone()));
    assert_ne!(split(rows.clone(), 0.1, 4).1, held);
    let mut all = [train, held].concat();
    all.sort_unstable();
    assert_eq!(all, rows);
    assert_eq!(split(vec![1, 2], 0.0, 0).1.len(), 1, "something is held out");
    assert_eq!(split(vec![1, 2], 1.0, 0).0.len(), 1, "something is learned from");
}
