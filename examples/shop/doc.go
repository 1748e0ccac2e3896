// Package shop is a little shop that uses a transactional outbox: every change
// of an order is committed together with the outbox rows that tell about it.
// It is the load of the demo and of the end-to-end tests, and it keeps a
// [Ledger] of what it committed and what it rolled back, so that an audit of
// the Kafka topics has something true to compare with.
//
// # Order
//
// The order of the events of one aggregate must be its commit order. Therefore
// a transaction holds the row lock of an aggregate when it assigns the next
// version, and PostgreSQL releases that lock only after the commit record is
// written: version n+1 is always committed after version n. A transaction that
// needs both locks takes the order's first; only a new order, which nobody else
// can see, comes after its customer. So transactions cannot deadlock.
package shop
