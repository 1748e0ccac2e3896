// Package orchestration is a saga with a conductor. The orchestrator keeps the state
// of each order in a table, tells the payment and the stock service by commands what
// to do, and hears by replies how it went. Commands are events in its outbox; the
// others' replies are events in theirs.
//
//	            charge            reserve
//	charging ──────────▶ reserving ──────▶ confirmed
//	    │ refused            │ refused
//	    │ too late           │ too late
//	    ▼                    ▼
//	 releasing ─────────▶ refunding ─────▶ cancelled
//	            release            refund
//
// A transition changes the row and writes the next command in one transaction, that
// of the inbox. So the row says at any moment what was asked for last.
//
// Each step has a deadline, a column of that row, set and judged by the clock of one
// database. If it passes, the orchestrator goes the way back: it tells the stock to
// release and the payments to refund, whether they have done anything or not. The
// commands of an order have one key, so these come after what they undo. A reply that
// comes too late finds the saga in another step, and changes nothing.
//
// The invariant is that of the choreographed saga: each order ends once, confirmed
// exactly if it is paid and reserved; money and goods are conserved.
package orchestration
