//! Firmwares and adapters in SQL.

use async_trait::async_trait;
use protocol::{AdapterName, Digest, FirmwareId, GenerationId, TenantId};
use time::OffsetDateTime;

use super::alias::AliasStatements as _;
use super::generation::{self, GenerationStatements as _};
use super::values::{
    adapter_name, blob, count, digest, from_word, insert_failed, met, micros, time,
};
use super::{Dialect, SqlRegistry, Statements, commit};
use crate::registry::{
    Adapter, AdapterKey, Catalogue, Current, Firmware, Kept, ListedFirmware, NumberedAdapter, Page,
    PageRequest,
};
use crate::{ObjectKind, StoreError};

pub(crate) struct FirmwareRow {
    id: Vec<u8>,
    name: String,
    version: String,
    manifest: String,
    created_at: i64,
}

pub(crate) struct ListedFirmwareRow {
    id: Vec<u8>,
    name: String,
    version: String,
    created_at: i64,
}

pub(crate) struct AdapterRow {
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

pub(crate) struct NumberedRow {
    number: i64,
    name: String,
}

#[derive(Default)]
pub(crate) struct KeptRow {
    adapters: i64,
    aliases: i64,
    file_bytes: i64,
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

statements! {
    /// Statements about firmwares and adapters.
    CatalogueStatements {
        fn insert_firmware(
            id: &[u8], name: &str, version: &str, manifest: &str, created_at: i64
        ) -> Count
            in "queries/sqlite/insert_firmware.sql", "queries/postgres/insert_firmware.sql";
        fn firmware(id: &[u8]) -> Option<FirmwareRow>
            in "queries/sqlite/firmware.sql", "queries/postgres/firmware.sql";
        fn firmwares(after: &[u8], rows: i64) -> Vec<ListedFirmwareRow>
            in "queries/sqlite/firmwares.sql", "queries/postgres/firmwares.sql";
        fn insert_adapter(tenant: &str, name: &str, created_at: i64) -> Count
            in "queries/sqlite/insert_adapter.sql", "queries/postgres/insert_adapter.sql";
        fn number_given(tenant: &str) -> Count
            in "queries/sqlite/number_given.sql", "queries/postgres/number_given.sql";
        fn numbered_adapters(tenant: &str, after: i64, rows: i64) -> Vec<NumberedRow>
            in "queries/sqlite/numbered_adapters.sql", "queries/postgres/numbered_adapters.sql";
        fn numbered_adapter(tenant: &str, number: i64) -> OptionalValue<String>
            in "queries/sqlite/numbered_adapter.sql", "queries/postgres/numbered_adapter.sql";
        fn kept(tenant: &str) -> Option<KeptRow>
            in "queries/sqlite/kept.sql", "queries/postgres/kept.sql";
        fn adapter(caller: &str, name: &str) -> Option<AdapterRow>
            in "queries/sqlite/adapter.sql", "queries/postgres/adapter.sql";
        fn adapters(caller: &str, after: &str, rows: i64) -> Vec<AdapterRow>
            in "queries/sqlite/adapters.sql", "queries/postgres/adapters.sql";
        fn adapter_has_name(tenant: &str, name: &str) -> Value<bool>
            in "queries/sqlite/adapter_has_name.sql", "queries/postgres/adapter_has_name.sql";
        fn share_adapter(shared: bool, tenant: &str, name: &str) -> Count
            in "queries/sqlite/share_adapter.sql", "queries/postgres/share_adapter.sql";
        fn pin_adapter(pinned: bool, tenant: &str, name: &str) -> Count
            in "queries/sqlite/pin_adapter.sql", "queries/postgres/pin_adapter.sql";
        fn pinned_adapters() -> Vec<AdapterRow>
            in "queries/sqlite/pinned_adapters.sql", "queries/postgres/pinned_adapters.sql";
        fn delete_adapter(tenant: &str, name: &str) -> Count
            in "queries/sqlite/delete_adapter.sql", "queries/postgres/delete_adapter.sql";
    }
}

#[async_trait]
impl<D: Dialect> Catalogue for SqlRegistry<D> {
    async fn put_firmware(&self, firmware: &Firmware) -> Result<(), StoreError> {
        let Firmware { id, name, version, manifest, created_at } = firmware;
        check_manifest(ObjectKind::Firmware, id.0, manifest)?;
        let (id, created_at) = (blob(&id.0), micros(*created_at));
        self.writer().await?.insert_firmware(id, name, version, manifest, created_at).await?;
        Ok(())
    }

    async fn firmware(&self, id: &FirmwareId) -> Result<Option<Firmware>, StoreError> {
        let row = self.reader().await?.firmware(blob(&id.0)).await?;
        row.map(Firmware::try_from).transpose()
    }

    async fn firmwares(&self, page: &PageRequest) -> Result<Page<ListedFirmware>, StoreError> {
        let after = page.after.as_ref().map(|text| text.parse::<Digest>());
        let after = after.transpose().map_err(|_| StoreError::BadCursor)?;
        let after = after.as_ref().map_or(&[][..], blob);
        let rows = self.reader().await?.firmwares(after, page.rows()).await?;
        let firmwares = rows.into_iter().map(ListedFirmware::try_from).collect::<Result<_, _>>()?;
        Ok(page.page(firmwares, |firmware| firmware.id.to_string()))
    }

    async fn adapter(
        &self,
        caller: &TenantId,
        name: &AdapterName,
    ) -> Result<Option<Adapter>, StoreError> {
        let row = self.reader().await?.adapter(caller.as_str(), name.as_str()).await?;
        row.map(Adapter::try_from).transpose()
    }

    async fn adapters(
        &self,
        caller: &TenantId,
        page: &PageRequest,
    ) -> Result<Page<Adapter>, StoreError> {
        let (after, rows) = (page.after_text(), page.rows());
        let rows = self.reader().await?.adapters(caller.as_str(), after, rows).await?;
        let adapters = rows.into_iter().map(Adapter::try_from).collect::<Result<_, _>>()?;
        Ok(page.page(adapters, |adapter| adapter.key.name.to_string()))
    }

    async fn numbered_adapters(
        &self,
        tenant: &TenantId,
        page: &PageRequest,
    ) -> Result<Page<NumberedAdapter>, StoreError> {
        let (tenant, after, rows) = (tenant.as_str(), page.after_number(-1)?, page.rows());
        let rows = self.reader().await?.numbered_adapters(tenant, after, rows).await?;
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
        let name = self.reader().await?.numbered_adapter(tenant.as_str(), number.into()).await?;
        name.map(|name| adapter_name(&name)).transpose()
    }

    async fn kept(&self, tenant: &TenantId) -> Result<Kept, StoreError> {
        let row = self.reader().await?.kept(tenant.as_str()).await?.unwrap_or_default();
        Ok(Kept {
            adapters: count(row.adapters)?,
            aliases: count(row.aliases)?,
            file_bytes: count(row.file_bytes)?,
        })
    }

    async fn share_adapter(&self, key: &AdapterKey, shared: bool) -> Result<(), StoreError> {
        let (tenant, name) = (key.tenant.as_str(), key.name.as_str());
        let changed =
            self.writer().await?.share_adapter(shared, tenant, name).await.map_err(
                insert_failed((ObjectKind::Adapter, name), (ObjectKind::Tenant, tenant)),
            )?;
        met(changed, ObjectKind::Adapter, name)
    }

    async fn pin_adapter(&self, key: &AdapterKey, pinned: bool) -> Result<(), StoreError> {
        let (tenant, name) = (key.tenant.as_str(), key.name.as_str());
        let changed = self.writer().await?.pin_adapter(pinned, tenant, name).await?;
        met(changed, ObjectKind::Adapter, name)
    }

    async fn pinned_adapters(&self) -> Result<Vec<Adapter>, StoreError> {
        let rows = self.reader().await?.pinned_adapters().await?;
        rows.into_iter().map(Adapter::try_from).collect()
    }

    async fn delete_adapter(&self, key: &AdapterKey) -> Result<Vec<Digest>, StoreError> {
        let (tenant, name) = (key.tenant.as_str(), key.name.as_str());
        let mut transaction = self.write_for(&key.tenant).await?;
        let files = transaction.adapter_digests(tenant, name).await?;
        let files = files.iter().map(|file| digest(file)).collect::<Result<_, _>>()?;
        transaction.delete_adapter_aliases(tenant, name).await?;
        let deleted = transaction.delete_adapter(tenant, name).await?;
        met(deleted, ObjectKind::Adapter, name)?;
        let unused = generation::unused(&mut *transaction, files).await?;
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

/// Makes the adapter unless it is there; its name must not answer for another one.
pub(super) async fn put_adapter(
    db: &mut impl Statements,
    key: &AdapterKey,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let (tenant, name) = (key.tenant.as_str(), key.name.as_str());
    if db.other_alias_has_name(tenant, name).await? {
        return Err(StoreError::already_exists(ObjectKind::Alias, name));
    }
    let inserted = db.insert_adapter(tenant, name, micros(now)).await;
    let failed = insert_failed((ObjectKind::Adapter, name), (ObjectKind::Tenant, tenant));
    if inserted.map_err(failed)? == 1 {
        db.number_given(tenant).await?;
    }
    Ok(())
}
