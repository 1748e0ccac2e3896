// Package check has the tests of the Helm chart and the alert rules. It is a
// module of its own, because Helm, Kubernetes and Prometheus are needed for
// nothing else. `make test` runs it.
package check
