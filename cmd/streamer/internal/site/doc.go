// Package site turns a configuration into what commands work with: the
// configuration of each stage, connections to PostgreSQL and Kafka, the stored
// checkpoint, and the names of topics, slots and streams.
//
// It opens and reads, and changes nothing. It knows no command and prints
// nothing. Start at [PipelineConfig], the only place where the keys of the
// configuration file meet the fields of the stages.
package site
