//! Generations in SQLite: their rows, and what may be done to one inside a transaction.

use std::collections::{HashMap, HashSet};

use protocol::{AdapterFile, Digest, FirmwareId, GenerationId, TenantId};
use sqlx::{Sqlite, SqliteConnection, Transaction, query_file, query_file_as};
use time::OffsetDateTime;

use super::values::{
    adapter_name, blob, count, digest, from_json, from_word, json, micros, time, word,
};
use crate::registry::{
    AdapterKey, Generation, GenerationKey, GenerationState, GenerationStep, NewGeneration,
};
use crate::{ObjectKind, StoreError};

pub(super) struct GenerationRow {
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

struct FileRow {
    generation_seq: i64,
    role: String,
    path: String,
    sha256: Vec<u8>,
    size_bytes: i64,
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
        db: &mut SqliteConnection,
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
    db: &mut SqliteConnection,
) -> Result<Vec<Generation>, StoreError> {
    let seqs = json(&rows.iter().map(|row| row.seq).collect::<Vec<_>>());
    let found = query_file_as!(FileRow, "queries/sqlite/generation_files.sql", seqs)
        .fetch_all(db)
        .await
        .map_err(StoreError::query("generation_files"))?;
    let mut files: HashMap<i64, Vec<AdapterFile>> = HashMap::new();
    for row in found {
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
pub(super) async fn own_row(
    db: &mut SqliteConnection,
    key: &GenerationKey,
) -> Result<Option<GenerationRow>, StoreError> {
    let (tenant, adapter) = (key.adapter.tenant.as_str(), key.adapter.name.as_str());
    let id = blob(&key.id.0);
    query_file_as!(GenerationRow, "queries/sqlite/own_generation.sql", tenant, adapter, id)
        .fetch_optional(db)
        .await
        .map_err(StoreError::query("own_generation"))
}

pub(super) async fn must_be_there(
    db: &mut SqliteConnection,
    key: &GenerationKey,
) -> Result<GenerationRow, StoreError> {
    let row = own_row(db, key).await?;
    row.ok_or_else(|| StoreError::not_found(ObjectKind::Generation, key.id))
}

/// Inserts the generation and its files unless it is there.
pub(super) async fn insert(
    transaction: &mut Transaction<'_, Sqlite>,
    new: &NewGeneration,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let inserted = query_file!(
        "queries/sqlite/insert_generation.sql",
        new.key.adapter.tenant.as_str(),
        new.key.adapter.name.as_str(),
        blob(&new.key.id.0),
        blob(&new.firmware.0),
        new.manifest,
        micros(now),
    )
    .fetch_optional(&mut **transaction)
    .await
    .map_err(StoreError::query("insert_generation"))?;
    let Some(inserted) = inserted else { return Ok(()) };
    for file in &new.files {
        insert_file(transaction, inserted.seq, file).await?;
    }
    Ok(())
}

async fn insert_file(
    transaction: &mut Transaction<'_, Sqlite>,
    seq: i64,
    file: &AdapterFile,
) -> Result<(), StoreError> {
    let limit_bytes = i64::MAX as u64;
    let size = i64::try_from(file.size_bytes).map_err(|_| StoreError::TooLarge { limit_bytes })?;
    query_file!(
        "queries/sqlite/insert_generation_file.sql",
        seq,
        word(&file.role),
        file.path,
        blob(&file.sha256),
        size,
    )
    .execute(&mut **transaction)
    .await
    .map_err(StoreError::query("insert_generation_file"))?;
    Ok(())
}

/// Takes a step that [`GenerationState::may_become`] allows from the row's state.
pub(super) async fn take_step(
    transaction: &mut Transaction<'_, Sqlite>,
    row: &GenerationRow,
    step: &GenerationStep,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let (failure, proof) = match step {
        GenerationStep::Fail { reason } => (Some(reason.as_str()), None),
        GenerationStep::Verify { proof } => (None, Some(json(proof))),
        _ => (None, None),
    };
    query_file!(
        "queries/sqlite/step_generation.sql",
        step.leads_to().as_str(),
        micros(now),
        failure,
        proof,
        row.seq,
        row.state,
    )
    .execute(&mut **transaction)
    .await
    .map_err(StoreError::query("step_generation"))?;
    Ok(())
}

/// Refuses while an alias points to the generation.
pub(super) async fn must_not_be_aliased(
    db: &mut SqliteConnection,
    key: &GenerationKey,
) -> Result<(), StoreError> {
    let (tenant, adapter) = (key.adapter.tenant.as_str(), key.adapter.name.as_str());
    let id = blob(&key.id.0);
    let row = query_file!("queries/sqlite/alias_of_generation.sql", tenant, adapter, id)
        .fetch_optional(db)
        .await
        .map_err(StoreError::query("alias_of_generation"))?;
    let Some(row) = row else { return Ok(()) };
    Err(StoreError::StillAliased { generation: key.id, alias: adapter_name(&row.name)? })
}

/// Those of `digests` that no file of a generation has, unless it failed.
pub(super) async fn unused(
    db: &mut SqliteConnection,
    digests: Vec<Digest>,
) -> Result<Vec<Digest>, StoreError> {
    let asked = json(&digests.iter().map(ToString::to_string).collect::<Vec<_>>());
    let rows = query_file!("queries/sqlite/digests_in_use.sql", asked)
        .fetch_all(db)
        .await
        .map_err(StoreError::query("digests_in_use"))?;
    let used = rows.iter().map(|row| digest(&row.sha256));
    let used = used.collect::<Result<HashSet<Digest>, _>>()?;
    Ok(digests.into_iter().filter(|digest| !used.contains(digest)).collect())
}
