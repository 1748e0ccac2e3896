// Package predecessor finds out whether another program, such as Debezium, has
// published events that wait in a slot. A streamer that starts there without
// knowing would publish them again.
package predecessor
