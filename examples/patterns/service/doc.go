// Package service is what the services of the examples have in common: flags, a
// pool of connections, a consumer group.
package service
