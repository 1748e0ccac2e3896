// Package find is the command that says where an event is: in the table, in the
// slot, in Kafka, among the dead letters, and for which consumer groups it is
// still ahead. It changes nothing. Start at search.run.
package find
