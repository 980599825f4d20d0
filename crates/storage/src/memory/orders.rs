//! [`OrderStore`] in memory.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use alloy_primitives::Address;
use protocol::ticket::{Amount, Issued, Nonce, OrderId, Ticket};

use super::MemoryStore;
use crate::{
    Issue, OrderFilter, OrderRecord, OrderRequest, OrderState, OrderStore, OrderTotals, Result, StoreError,
    orders::{check_move, check_signed, nonce_after},
};

impl OrderStore for MemoryStore {
    async fn issue<F>(&self, request: OrderRequest, sign: F) -> Result<Issue>
    where
        F: FnOnce(Nonce) -> Ticket<Issued> + Send + 'static,
    {
        let mut tables = self.tables.lock();
        if let Some(key) = tables.order_keys.get(&request.order) {
            return Ok(Issue::Existing(tables.orders[key].clone()));
        }
        let mut spent = HashMap::with_capacity(request.budgets.len());
        for budget in &request.budgets {
            let before = tables.spent.get(&budget.account).copied().unwrap_or_default();
            spent.insert(budget.account.clone(), budget.charge(before, request.price)?);
        }
        let nonce = tables.next_nonce(request.escrow);
        let after = nonce_after(request.escrow, nonce)?;
        let ticket = catch_unwind(AssertUnwindSafe(|| sign(nonce)))
            .map_err(|_| StoreError::SignPanicked(request.order))?;
        check_signed(&self.identity.domain, &request, nonce, &ticket)?;
        let record = OrderRecord::new(&request, ticket);
        let key = (request.escrow, nonce);
        tables.spent.extend(spent);
        tables.next_nonces.insert(request.escrow, after);
        tables.order_keys.insert(request.order, key);
        tables.orders.insert(key, record.clone());
        Ok(Issue::Fresh(record))
    }

    async fn order(&self, id: OrderId) -> Result<Option<OrderRecord>> {
        let tables = self.tables.lock();
        Ok(tables.order_keys.get(&id).map(|key| tables.orders[key].clone()))
    }

    async fn resolve(&self, id: OrderId, state: OrderState) -> Result<bool> {
        let mut tables = self.tables.lock();
        let key = *tables.order_keys.get(&id).ok_or(StoreError::UnknownOrder(id))?;
        let record = tables.orders.get_mut(&key).ok_or(StoreError::UnknownOrder(id))?;
        let changes = check_move(record, &state)?;
        record.state = state;
        Ok(changes)
    }

    async fn raise_nonce(&self, escrow: Address, above: Nonce) -> Result<Nonce> {
        let mut tables = self.tables.lock();
        let next = nonce_after(escrow, above)?.max(tables.next_nonce(escrow));
        tables.next_nonces.insert(escrow, next);
        Ok(next)
    }

    async fn orders(&self, filter: impl Into<OrderFilter> + Send) -> Result<Vec<OrderRecord>> {
        let filter = filter.into();
        let tables = self.tables.lock();
        let chosen = tables
            .orders
            .values()
            .rev()
            .filter(|order| filter.escrow.is_none_or(|escrow| order.ticket.escrow() == escrow))
            .filter(|order| filter.stage.is_none_or(|stage| order.state.stage() == stage));
        let limit = filter.limit.map_or(usize::MAX, |limit| limit as usize);
        let mut orders: Vec<_> = chosen.take(limit).cloned().collect();
        orders.reverse();
        Ok(orders)
    }

    async fn next_nonce(&self, escrow: Address) -> Result<Nonce> {
        Ok(self.tables.lock().next_nonce(escrow))
    }

    async fn spent(&self, account: &str) -> Result<Amount> {
        Ok(self.tables.lock().spent.get(account).copied().unwrap_or_default())
    }

    async fn order_totals(&self, escrow: Option<Address>) -> Result<OrderTotals> {
        let mut totals = OrderTotals::default();
        for order in self.tables.lock().orders.values() {
            if escrow.is_none_or(|escrow| order.ticket.escrow() == escrow) {
                totals.of_mut(order.state.stage()).add(1, order.price)?;
            }
        }
        Ok(totals)
    }
}
