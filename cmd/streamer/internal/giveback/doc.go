// Package giveback is streamer give-back: it ends the work of a streamer so that
// another publisher of the outbox can go on from there. Start at [Debezium].
package giveback
