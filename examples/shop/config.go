package shop

import (
	_ "embed"
	"errors"
	"fmt"
)

// Schema creates the tables of the shop, the outbox among them. It changes
// nothing that exists.
//
//go:embed schema.sql
var Schema string

const (
	defaultConnections = 4
	defaultCustomers   = 10

	// maxRate is the rate above which the interval between two transactions is
	// shorter than a timer can measure.
	maxRate = 1e6
)

// Config says how busy the shop is.
type Config struct {
	DSN         string // libpq URL or key=value string; empty: the PG* variables
	Connections int    // transactions at a time; 0: four
	Customers   int    // who place the orders; fewer mean more waiting for row locks; 0: ten

	Orders        int     // how many orders to place and complete; 0: until the context ends
	Rate          float64 // transactions per second over all connections; 0: as fast as possible
	RollbackShare float64 // share of transactions rolled back on purpose, from 0 to below 1
	Seed          uint64  // repeats the random choices of each connection, not how connections interleave

	// CountOnly keeps no events, for a shop that stays open: the lists of the
	// ledger stay empty.
	CountOnly bool

	// Progress, if set, is called after every transaction, by one goroutine at a
	// time. All connections wait while it runs.
	Progress func(Progress)
}

func (c Config) withDefaults() Config {
	if c.Connections == 0 {
		c.Connections = defaultConnections
	}
	if c.Customers == 0 {
		c.Customers = defaultCustomers
	}
	return c
}

func (c Config) validate() error {
	var problems []error
	if c.Connections < 0 {
		problems = append(problems, fmt.Errorf("connections %d: must not be negative", c.Connections))
	}
	if c.Customers < 0 {
		problems = append(problems, fmt.Errorf("customers %d: must not be negative", c.Customers))
	}
	if c.Orders < 0 {
		problems = append(problems, fmt.Errorf("orders %d: must not be negative", c.Orders))
	}
	if !(c.Rate >= 0 && c.Rate <= maxRate) {
		problems = append(problems, fmt.Errorf("rate %g: must be from 0 to %g transactions per second", c.Rate, maxRate))
	}
	if !(c.RollbackShare >= 0 && c.RollbackShare < 1) {
		problems = append(problems, fmt.Errorf("rollback share %g: must be from 0 to below 1", c.RollbackShare))
	}
	return errors.Join(problems...)
}
