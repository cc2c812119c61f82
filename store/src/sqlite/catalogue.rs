//! Firmwares and adapters in SQLite.

use async_trait::async_trait;
use protocol::{AdapterName, Digest, FirmwareId, GenerationId, TenantId};
use sqlx::{Sqlite, SqliteExecutor, Transaction, query_file, query_file_as};
use time::OffsetDateTime;

use super::values::{
    adapter_name, blob, count, digest, from_word, insert_failed, met, micros, time,
};
use super::{SqliteRegistry, commit, generation};
use crate::registry::{
    Adapter, AdapterKey, Catalogue, Current, Firmware, Kept, ListedFirmware, NumberedAdapter, Page,
    PageRequest,
};
use crate::{ObjectKind, StoreError};

struct FirmwareRow {
    id: Vec<u8>,
    name: String,
    version: String,
    manifest: String,
    created_at: i64,
}

struct ListedFirmwareRow {
    id: Vec<u8>,
    name: String,
    version: String,
    created_at: i64,
}

struct AdapterRow {
    tenant_id: String,
    name: String,
    shared: bool,
    pinned: bool,
    created_at: i64,
    generation_id: Option<Vec<u8>>,
    firmware_id: Option<Vec<u8>>,
    state: Option<String>,
    generation_created_at: Option<i64>,
    resident_bytes: Option<i64>,
    told_state: Option<String>,
    told_failure: Option<String>,
}

impl TryFrom<FirmwareRow> for Firmware {
    type Error = StoreError;

    fn try_from(row: FirmwareRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: FirmwareId(digest(&row.id)?),
            name: row.name,
            version: row.version,
            manifest: row.manifest,
            created_at: time(row.created_at)?,
        })
    }
}

impl TryFrom<ListedFirmwareRow> for ListedFirmware {
    type Error = StoreError;

    fn try_from(row: ListedFirmwareRow) -> Result<Self, StoreError> {
        let (id, created_at) = (FirmwareId(digest(&row.id)?), time(row.created_at)?);
        Ok(Self { id, name: row.name, version: row.version, created_at })
    }
}

impl TryFrom<AdapterRow> for Adapter {
    type Error = StoreError;

    fn try_from(row: AdapterRow) -> Result<Self, StoreError> {
        let current = row.current()?;
        let state = row.told_state.map(|word| from_word("generation state", word)).transpose()?;
        let key = AdapterKey { tenant: TenantId(row.tenant_id), name: adapter_name(&row.name)? };
        let (shared, pinned, created_at) = (row.shared, row.pinned, time(row.created_at)?);
        Ok(Self { key, shared, pinned, current, state, failure: row.told_failure, created_at })
    }
}

impl AdapterRow {
    /// The columns of the generation, which are all there or none.
    fn current(&self) -> Result<Option<Current>, StoreError> {
        let columns = (&self.generation_id, &self.firmware_id, &self.state);
        let ((Some(id), Some(firmware), Some(state)), Some(created_at)) =
            (columns, self.generation_created_at)
        else {
            return Ok(None);
        };
        Ok(Some(Current {
            id: GenerationId(digest(id)?),
            firmware: FirmwareId(digest(firmware)?),
            state: from_word("generation state", state.clone())?,
            resident_bytes: count(self.resident_bytes.unwrap_or_default())?,
            created_at: time(created_at)?,
        }))
    }
}

#[async_trait]
impl Catalogue for SqliteRegistry {
    async fn put_firmware(&self, firmware: &Firmware) -> Result<(), StoreError> {
        check_manifest(ObjectKind::Firmware, firmware.id.0, &firmware.manifest)?;
        query_file!(
            "queries/sqlite/insert_firmware.sql",
            blob(&firmware.id.0),
            firmware.name,
            firmware.version,
            firmware.manifest,
            micros(firmware.created_at),
        )
        .execute(&self.writer)
        .await
        .map_err(StoreError::query("insert_firmware"))?;
        Ok(())
    }

    async fn firmware(&self, id: &FirmwareId) -> Result<Option<Firmware>, StoreError> {
        find_firmware(&self.readers, id).await
    }

    async fn firmwares(&self, page: &PageRequest) -> Result<Page<ListedFirmware>, StoreError> {
        let after = page.after.as_ref().map(|text| text.parse::<Digest>());
        let after = after.transpose().map_err(|_| StoreError::BadCursor)?;
        let (after, rows) = (after.as_ref().map_or(&[][..], blob), page.rows());
        let rows = query_file_as!(ListedFirmwareRow, "queries/sqlite/firmwares.sql", after, rows)
            .fetch_all(&self.readers)
            .await
            .map_err(StoreError::query("firmwares"))?;
        let firmwares = rows.into_iter().map(ListedFirmware::try_from).collect::<Result<_, _>>()?;
        Ok(page.page(firmwares, |firmware| firmware.id.to_string()))
    }

    async fn adapter(
        &self,
        caller: &TenantId,
        name: &AdapterName,
    ) -> Result<Option<Adapter>, StoreError> {
        let (caller, name) = (caller.as_str(), name.as_str());
        let row = query_file_as!(AdapterRow, "queries/sqlite/adapter.sql", caller, name)
            .fetch_optional(&self.readers)
            .await
            .map_err(StoreError::query("adapter"))?;
        row.map(Adapter::try_from).transpose()
    }

    async fn adapters(
        &self,
        caller: &TenantId,
        page: &PageRequest,
    ) -> Result<Page<Adapter>, StoreError> {
        let (caller, after, rows) = (caller.as_str(), page.after_text(), page.rows());
        let rows = query_file_as!(AdapterRow, "queries/sqlite/adapters.sql", caller, after, rows)
            .fetch_all(&self.readers)
            .await
            .map_err(StoreError::query("adapters"))?;
        let adapters = rows.into_iter().map(Adapter::try_from).collect::<Result<_, _>>()?;
        Ok(page.page(adapters, |adapter| adapter.key.name.to_string()))
    }

    async fn numbered_adapters(
        &self,
        tenant: &TenantId,
        page: &PageRequest,
    ) -> Result<Page<NumberedAdapter>, StoreError> {
        let (tenant, after, rows) = (tenant.as_str(), page.after_number(-1)?, page.rows());
        let rows = query_file!("queries/sqlite/numbered_adapters.sql", tenant, after, rows)
            .fetch_all(&self.readers)
            .await
            .map_err(StoreError::query("numbered_adapters"))?;
        let numbered = rows.into_iter().map(|row| {
            let number = row.number.try_into().map_err(|_| StoreError::Unreadable("number"))?;
            Ok(NumberedAdapter { number, name: adapter_name(&row.name)? })
        });
        let numbered = numbered.collect::<Result<_, StoreError>>()?;
        Ok(page.page(numbered, |adapter: &NumberedAdapter| adapter.number.to_string()))
    }

    async fn numbered_adapter(
        &self,
        tenant: &TenantId,
        number: u32,
    ) -> Result<Option<AdapterName>, StoreError> {
        let row = query_file!("queries/sqlite/numbered_adapter.sql", tenant.as_str(), number)
            .fetch_optional(&self.readers)
            .await
            .map_err(StoreError::query("numbered_adapter"))?;
        row.map(|row| adapter_name(&row.name)).transpose()
    }

    async fn kept(&self, tenant: &TenantId) -> Result<Kept, StoreError> {
        let row = query_file!("queries/sqlite/kept.sql", tenant.as_str())
            .fetch_one(&self.readers)
            .await
            .map_err(StoreError::query("kept"))?;
        Ok(Kept {
            adapters: count(row.adapters)?,
            aliases: count(row.aliases)?,
            file_bytes: count(row.file_bytes)?,
        })
    }

    async fn share_adapter(&self, key: &AdapterKey, shared: bool) -> Result<(), StoreError> {
        let (tenant, name) = (key.tenant.as_str(), key.name.as_str());
        let done = query_file!("queries/sqlite/share_adapter.sql", shared, tenant, name)
            .execute(&self.writer)
            .await
            .map_err(insert_failed(
                "share_adapter",
                (ObjectKind::Adapter, name),
                (ObjectKind::Tenant, tenant),
            ))?;
        met(done.rows_affected(), ObjectKind::Adapter, name)
    }

    async fn pin_adapter(&self, key: &AdapterKey, pinned: bool) -> Result<(), StoreError> {
        let (tenant, name) = (key.tenant.as_str(), key.name.as_str());
        let done = query_file!("queries/sqlite/pin_adapter.sql", pinned, tenant, name)
            .execute(&self.writer)
            .await
            .map_err(StoreError::query("pin_adapter"))?;
        met(done.rows_affected(), ObjectKind::Adapter, name)
    }

    async fn pinned_adapters(&self) -> Result<Vec<Adapter>, StoreError> {
        let rows = query_file_as!(AdapterRow, "queries/sqlite/pinned_adapters.sql")
            .fetch_all(&self.readers)
            .await
            .map_err(StoreError::query("pinned_adapters"))?;
        rows.into_iter().map(Adapter::try_from).collect()
    }

    async fn delete_adapter(&self, key: &AdapterKey) -> Result<Vec<Digest>, StoreError> {
        let (tenant, name) = (key.tenant.as_str(), key.name.as_str());
        let mut transaction = self.write().await?;
        let files = query_file!("queries/sqlite/adapter_digests.sql", tenant, name)
            .fetch_all(&mut *transaction)
            .await
            .map_err(StoreError::query("adapter_digests"))?;
        let files = files.iter().map(|row| digest(&row.sha256)).collect::<Result<_, _>>()?;
        query_file!("queries/sqlite/delete_adapter_aliases.sql", tenant, name)
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::query("delete_adapter_aliases"))?;
        let done = query_file!("queries/sqlite/delete_adapter.sql", tenant, name)
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::query("delete_adapter"))?;
        met(done.rows_affected(), ObjectKind::Adapter, name)?;
        let unused = generation::unused(&mut transaction, files).await?;
        commit(transaction).await?;
        Ok(unused)
    }
}

pub(super) fn check_manifest(
    kind: ObjectKind,
    claimed: Digest,
    manifest: &str,
) -> Result<(), StoreError> {
    let actual = Digest::of(manifest.as_bytes());
    if actual != claimed {
        return Err(StoreError::ManifestMismatch { kind, claimed, actual });
    }
    Ok(())
}

pub(super) async fn find_firmware(
    db: impl SqliteExecutor<'_>,
    id: &FirmwareId,
) -> Result<Option<Firmware>, StoreError> {
    let row = query_file_as!(FirmwareRow, "queries/sqlite/firmware.sql", blob(&id.0))
        .fetch_optional(db)
        .await
        .map_err(StoreError::query("firmware"))?;
    row.map(Firmware::try_from).transpose()
}

/// Makes the adapter unless it is there; its name must not answer for another one.
pub(super) async fn put_adapter(
    transaction: &mut Transaction<'_, Sqlite>,
    key: &AdapterKey,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let (tenant, name) = (key.tenant.as_str(), key.name.as_str());
    let other = query_file!("queries/sqlite/other_alias_has_name.sql", tenant, name)
        .fetch_one(&mut **transaction)
        .await
        .map_err(StoreError::query("other_alias_has_name"))?;
    if other.taken {
        return Err(StoreError::already_exists(ObjectKind::Alias, name));
    }
    let inserted = query_file!("queries/sqlite/insert_adapter.sql", tenant, name, micros(now))
        .execute(&mut **transaction)
        .await
        .map_err(insert_failed(
            "insert_adapter",
            (ObjectKind::Adapter, name),
            (ObjectKind::Tenant, tenant),
        ))?;
    if inserted.rows_affected() == 1 {
        query_file!("queries/sqlite/number_given.sql", tenant)
            .execute(&mut **transaction)
            .await
            .map_err(StoreError::query("number_given"))?;
    }
    Ok(())
}
