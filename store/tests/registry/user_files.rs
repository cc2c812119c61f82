//! Callers' files, and batches on them.

use std::time::{Duration, Instant};

use protocol::{BatchId, Digest, FileId, TenantId};
use serde_json::json;
use store::registry::{
    FilePurpose, JobEnd, JobState, KeptFiles, NewBatch, NewFile, PageRequest, Registry, RequestKey,
};

use crate::fixtures::tenant;
use crate::jobs::{LEASE, job, keyed};

fn file(tenant: &TenantId, name: &str) -> NewFile {
    NewFile {
        id: FileId(format!("file-{name}")),
        tenant: tenant.clone(),
        purpose: FilePurpose::Batch,
        name: format!("{name}.jsonl"),
        size_bytes: 5,
        blob: Digest::of(b"lines"),
        life: None,
        key: None,
    }
}

fn batch(name: &str) -> NewBatch {
    NewBatch {
        id: BatchId(format!("batch_{name}")),
        input: FileId::from("file-a"),
        endpoint: "/v1/chat/completions".to_owned(),
        window: "24h".to_owned(),
        life: Duration::from_hours(24),
        metadata: json!({"for": "test"}),
    }
}

pub async fn a_file_belongs_to_one_tenant_and_its_blob_is_in_use_until_the_last_one_is_deleted(
    registry: &dyn Registry,
) {
    let (acme, other) = (tenant(registry, "acme").await, tenant(registry, "other").await);
    let blob = Digest::of(b"lines");
    let (kept, new) = registry.add_file(&file(&acme, "a")).await.unwrap();
    assert!(new && kept.blob == blob);
    registry
        .add_file(&NewFile { purpose: FilePurpose::Evaluate, ..file(&acme, "b") })
        .await
        .unwrap();
    assert!(registry.file(&other, &kept.id).await.unwrap().is_none());
    assert_eq!(registry.delete_file(&other, &kept.id).await.unwrap_err().code(), "not_found");
    let all = registry.files(&acme, None, &PageRequest::default()).await.unwrap().items;
    let names: Vec<_> = all.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["b.jsonl", "a.jsonl"], "newest first");
    let some = registry.files(&acme, Some(FilePurpose::Batch), &PageRequest::default()).await;
    assert_eq!(some.unwrap().items, std::slice::from_ref(&kept));
    assert_eq!(registry.kept_files(&acme).await.unwrap(), KeptFiles { files: 2, bytes: 10 });

    assert_eq!(registry.delete_file(&acme, &kept.id).await.unwrap(), blob);
    assert!(registry.unused(vec![blob]).await.unwrap().is_empty(), "the other file has it too");
    registry.delete_file(&acme, &FileId::from("file-b")).await.unwrap();
    assert_eq!(registry.unused(vec![blob]).await.unwrap(), [blob]);
}

pub async fn an_expired_file_is_gone_before_it_is_swept(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    let short = NewFile { life: Some(Duration::from_millis(1)), ..file(&acme, "a") };
    let long = NewFile { life: Some(Duration::from_hours(1)), ..file(&acme, "b") };
    // It may be over before it is read back.
    let _ = registry.add_file(&short).await;
    registry.add_file(&long).await.unwrap();
    let began = Instant::now();
    while registry.file(&acme, &short.id).await.unwrap().is_some() {
        assert!(began.elapsed() < Duration::from_secs(20));
    }
    assert_eq!(registry.expire_files(9).await.unwrap(), [short.blob]);
    assert_eq!(registry.kept_files(&acme).await.unwrap().files, 1);
}

pub async fn a_file_sent_again_under_its_key_is_one_file(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    let with = |name: &str, body: &[u8]| {
        let key = RequestKey { key: "k".to_owned(), request: Digest::of(body) };
        NewFile { key: Some(key), ..file(&acme, name) }
    };
    let (first, _) = registry.add_file(&with("a", b"x")).await.unwrap();
    assert_eq!(registry.add_file(&with("b", b"x")).await.unwrap(), (first, false));
    let refused = registry.add_file(&with("c", b"y")).await.unwrap_err();
    assert_eq!(refused.code(), "idempotency_key_reused");
}

pub async fn a_batch_and_its_job_come_to_be_as_one(registry: &dyn Registry) {
    let (acme, other) = (tenant(registry, "acme").await, tenant(registry, "other").await);
    let (made, new) =
        registry.submit_batch(&keyed(&acme, "a", "k", "x"), &batch("a")).await.unwrap();
    assert!(new && made.job.state == JobState::Queued && made.metadata == json!({"for": "test"}));
    let again = registry.submit_batch(&keyed(&acme, "b", "k", "x"), &batch("b")).await.unwrap();
    assert_eq!(again, (made.clone(), false));
    let refused = registry.submit_batch(&keyed(&acme, "c", "k", "y"), &batch("c")).await;
    assert_eq!(refused.unwrap_err().code(), "idempotency_key_reused");
    assert!(registry.batch(&other, &made.id).await.unwrap().is_none());
    assert_eq!(registry.batch(&acme, &made.id).await.unwrap(), Some(made.clone()));
    registry.submit_batch(&job(&acme, "d"), &batch("d")).await.unwrap();
    let page = registry.batches(&acme, &PageRequest { after: None, limit: 1 }).await.unwrap();
    assert_eq!((page.items[0].id.as_str(), page.next.as_deref()), ("batch_d", Some("batch_d")));
}

pub async fn a_jobs_files_come_to_be_when_it_ends(registry: &dyn Registry) {
    let acme = tenant(registry, "acme").await;
    registry.submit_job(&job(&acme, "a")).await.unwrap();
    let held = registry.claim_jobs("one", LEASE, 1).await.unwrap().remove(0);
    let files = vec![NewFile { purpose: FilePurpose::BatchOutput, ..file(&acme, "out") }];
    let end = JobEnd { state: JobState::Succeeded, result: json!({}), files };
    registry.finish_job(&held.claim(), &end).await.unwrap();
    let refused = registry.finish_job(&held.claim(), &end).await.unwrap_err();
    assert_eq!(refused.code(), "job_fenced", "it is over");
    let kept = registry.files(&acme, None, &PageRequest::default()).await.unwrap().items;
    assert_eq!(kept.len(), 1);
}
