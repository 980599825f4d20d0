//! The suite on the memory backend.

use micropay_storage::{MemoryStore, Result, StoreIdentity, conformance::Backend};

struct Memory(std::sync::OnceLock<MemoryStore>);

impl Backend for Memory {
    type Store = MemoryStore;
    const KEEPS: bool = false;

    async fn place() -> Self {
        Self(std::sync::OnceLock::new())
    }

    async fn open(&self, identity: StoreIdentity) -> Result<MemoryStore> {
        Ok(self.0.get_or_init(|| MemoryStore::new(identity)).clone())
    }

    async fn close(&self, _store: MemoryStore) -> Result<()> {
        Ok(())
    }
}

micropay_storage::conformance!(Memory);
