//! Generations in SQL: their rows, and what may be done to one inside a transaction.

use std::collections::{HashMap, HashSet};

use protocol::{AdapterFile, Digest, FirmwareId, GenerationId, TenantId};
use time::OffsetDateTime;

use super::Statements;
use super::statements::Bytes;
use super::values::{
    adapter_name, blob, count, digest, from_json, from_word, json, micros, time, word,
};
use crate::registry::{
    AdapterKey, Generation, GenerationKey, GenerationState, GenerationStep, NewGeneration,
};
use crate::{ObjectKind, StoreError};

pub(crate) struct GenerationRow {
    pub(super) seq: i64,
    pub(super) tenant_id: String,
    pub(super) adapter_name: String,
    pub(super) id: Vec<u8>,
    pub(super) firmware_id: Vec<u8>,
    pub(super) manifest: String,
    pub(super) state: String,
    pub(super) state_at: i64,
    pub(super) failure: Option<String>,
    pub(super) proof: Option<String>,
    pub(super) created_at: i64,
}

pub(crate) struct FileRow {
    generation_seq: i64,
    role: String,
    path: String,
    sha256: Vec<u8>,
    size_bytes: i64,
}

statements! {
    /// Statements about generations and their files.
    GenerationStatements {
        fn insert_generation(
            tenant: &str, adapter: &str, id: &[u8], firmware: &[u8], manifest: &str, now: i64
        ) -> OptionalValue<i64>
            in "queries/sqlite/insert_generation.sql", "queries/postgres/insert_generation.sql";
        fn insert_generation_file(
            generation: i64, role: &str, path: &str, sha256: &[u8], size_bytes: i64
        ) -> Count
            in "queries/sqlite/insert_generation_file.sql", "queries/postgres/insert_generation_file.sql";
        fn own_generation(tenant: &str, adapter: &str, id: &[u8]) -> Option<GenerationRow>
            in "queries/sqlite/own_generation.sql", "queries/postgres/own_generation.sql";
        fn generation(caller: &str, name: &str, id: &[u8]) -> Option<GenerationRow>
            in "queries/sqlite/generation.sql", "queries/postgres/generation.sql";
        fn generation_by_id(caller: &str, id: &[u8]) -> Option<GenerationRow>
            in "queries/sqlite/generation_by_id.sql", "queries/postgres/generation_by_id.sql";
        fn generations(tenant: &str, adapter: &str, before: i64, rows: i64) -> Vec<GenerationRow>
            in "queries/sqlite/generations.sql", "queries/postgres/generations.sql";
        fn generations_in_state(state: &str, after: i64, rows: i64) -> Vec<GenerationRow>
            in "queries/sqlite/generations_in_state.sql", "queries/postgres/generations_in_state.sql";
        fn generation_files(seqs: &str) -> Vec<FileRow>
            in "queries/sqlite/generation_files.sql", "queries/postgres/generation_files.sql";
        fn manifest(id: &[u8]) -> OptionalValue<String>
            in "queries/sqlite/manifest.sql", "queries/postgres/manifest.sql";
        fn may_read(tenant: &str, digest: &[u8]) -> Value<bool>
            in "queries/sqlite/may_read.sql", "queries/postgres/may_read.sql";
        fn adapter_digests(tenant: &str, adapter: &str) -> Values<Bytes>
            in "queries/sqlite/adapter_digests.sql", "queries/postgres/adapter_digests.sql";
        fn digests_in_use(digests: &str) -> Values<Bytes>
            in "queries/sqlite/digests_in_use.sql", "queries/postgres/digests_in_use.sql";
        fn step_generation(
            state: &str, now: i64, failure: Option<&str>, proof: Option<&str>, seq: i64, from: &str
        ) -> Count
            in "queries/sqlite/step_generation.sql", "queries/postgres/step_generation.sql";
        fn delete_generation(seq: i64) -> Count
            in "queries/sqlite/delete_generation.sql", "queries/postgres/delete_generation.sql";
    }
}

impl TryFrom<FileRow> for AdapterFile {
    type Error = StoreError;

    fn try_from(row: FileRow) -> Result<Self, StoreError> {
        Ok(Self {
            role: from_word("file role", row.role)?,
            path: row.path,
            sha256: digest(&row.sha256)?,
            size_bytes: count(row.size_bytes)?,
        })
    }
}

impl GenerationRow {
    pub(super) fn key(&self) -> Result<GenerationKey, StoreError> {
        generation_key(&self.tenant_id, &self.adapter_name, &self.id)
    }

    pub(super) fn state(&self) -> Result<GenerationState, StoreError> {
        from_word("generation state", self.state.clone())
    }

    /// Adds the files, which have a table of their own.
    pub(super) async fn with_files(
        self,
        db: &mut impl Statements,
    ) -> Result<Generation, StoreError> {
        let mut generations = with_files(vec![self], db).await?;
        Ok(generations.pop().expect("one row makes one generation"))
    }

    fn generation(self, files: Vec<AdapterFile>) -> Result<Generation, StoreError> {
        let proof = self.proof.as_deref().map(|text| from_json("proof", text));
        Ok(Generation {
            key: self.key()?,
            firmware: FirmwareId(digest(&self.firmware_id)?),
            state: self.state()?,
            state_at: time(self.state_at)?,
            files,
            proof: proof.transpose()?,
            created_at: time(self.created_at)?,
            manifest: self.manifest,
            failure: self.failure,
        })
    }
}

/// Adds the files of all rows in one query.
pub(super) async fn with_files(
    rows: Vec<GenerationRow>,
    db: &mut impl Statements,
) -> Result<Vec<Generation>, StoreError> {
    let seqs = json(&rows.iter().map(|row| row.seq).collect::<Vec<_>>());
    let mut files: HashMap<i64, Vec<AdapterFile>> = HashMap::new();
    for row in db.generation_files(&seqs).await? {
        files.entry(row.generation_seq).or_default().push(row.try_into()?);
    }
    let with_own = |row: GenerationRow| {
        let own = files.remove(&row.seq).unwrap_or_default();
        row.generation(own)
    };
    rows.into_iter().map(with_own).collect()
}

pub(super) fn generation_key(
    tenant: &str,
    adapter: &str,
    id: &[u8],
) -> Result<GenerationKey, StoreError> {
    let adapter = AdapterKey { tenant: TenantId::from(tenant), name: adapter_name(adapter)? };
    Ok(GenerationKey { adapter, id: GenerationId(digest(id)?) })
}

/// The row of exactly this generation.
pub(super) async fn must_be_there(
    db: &mut impl Statements,
    key: &GenerationKey,
) -> Result<GenerationRow, StoreError> {
    let (tenant, adapter) = (key.adapter.tenant.as_str(), key.adapter.name.as_str());
    let row = db.own_generation(tenant, adapter, blob(&key.id.0)).await?;
    row.ok_or_else(|| StoreError::not_found(ObjectKind::Generation, key.id))
}

/// Inserts the generation and its files unless it is there.
pub(super) async fn insert(
    db: &mut impl Statements,
    new: &NewGeneration,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let (tenant, adapter) = (new.key.adapter.tenant.as_str(), new.key.adapter.name.as_str());
    let (id, firmware, now) = (blob(&new.key.id.0), blob(&new.firmware.0), micros(now));
    let seq = db.insert_generation(tenant, adapter, id, firmware, &new.manifest, now).await?;
    let Some(seq) = seq else { return Ok(()) };
    for file in &new.files {
        insert_file(db, seq, file).await?;
    }
    Ok(())
}

async fn insert_file(
    db: &mut impl Statements,
    seq: i64,
    file: &AdapterFile,
) -> Result<(), StoreError> {
    let limit_bytes = i64::MAX as u64;
    let size = i64::try_from(file.size_bytes).map_err(|_| StoreError::TooLarge { limit_bytes })?;
    let (role, digest) = (word(&file.role), blob(&file.sha256));
    db.insert_generation_file(seq, &role, &file.path, digest, size).await?;
    Ok(())
}

/// Takes a step that [`GenerationState::may_become`] allows from the row's state.
pub(super) async fn take_step(
    db: &mut impl Statements,
    row: &GenerationRow,
    step: &GenerationStep,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let (failure, proof) = match step {
        GenerationStep::Fail { reason } => (Some(reason.as_str()), None),
        GenerationStep::Verify { proof } => (None, Some(json(proof))),
        _ => (None, None),
    };
    let (to, now, proof) = (step.leads_to().as_str(), micros(now), proof.as_deref());
    db.step_generation(to, now, failure, proof, row.seq, &row.state).await?;
    Ok(())
}

/// Refuses while an alias points to the generation.
pub(super) async fn must_not_be_aliased(
    db: &mut impl Statements,
    key: &GenerationKey,
) -> Result<(), StoreError> {
    let (tenant, adapter) = (key.adapter.tenant.as_str(), key.adapter.name.as_str());
    let name = db.alias_of_generation(tenant, adapter, blob(&key.id.0)).await?;
    let Some(name) = name else { return Ok(()) };
    Err(StoreError::StillAliased { generation: key.id, alias: adapter_name(&name)? })
}

/// Those of `digests` that no file of a generation has, unless it failed.
pub(super) async fn unused(
    db: &mut impl Statements,
    digests: Vec<Digest>,
) -> Result<Vec<Digest>, StoreError> {
    let asked = json(&digests.iter().map(ToString::to_string).collect::<Vec<_>>());
    let used = db.digests_in_use(&asked).await?;
    let used = used.iter().map(|used| digest(used)).collect::<Result<HashSet<_>, _>>()?;
    Ok(digests.into_iter().filter(|digest| !used.contains(digest)).collect())
}
