// Package check holds the tests of the Helm chart and the alert rules. It is a
// module of its own, because nothing else needs Helm, Kubernetes and
// Prometheus. `make test` runs it.
package check
