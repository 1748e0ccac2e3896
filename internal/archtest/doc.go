// Package archtest proves the import rules of docs/architecture.md: imports
// point from the consumer to the producer and never sideways, and each foreign
// technology has one home. The package contains only tests.
package archtest
