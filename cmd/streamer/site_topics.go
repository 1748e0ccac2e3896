package main

import (
	"strings"

	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/router"
)

// newRouter makes the routes for what needs no stream.
func newRouter(cfg config.Config, database string) (*router.Router, error) {
	r := rules(cfg)
	r.Database = database
	return router.NewRouter(r)
}

// unknownDatabase stands for the name of the database where there is no
// connection to ask.
const unknownDatabase = "unknown-database"

// knownTopics are the topics that the rules can lead to: names, and what other
// names begin with. Without a database, names with {database} in them are known
// up to there.
func knownTopics(cfg config.Config, database string) (known, prefixes []string, err error) {
	if database == "" {
		database = unknownDatabase
	}
	routes, err := newRouter(cfg, database)
	if err != nil {
		return nil, nil, err
	}
	names, beginnings := routes.Topics()
	for _, name := range names {
		if before, _, found := strings.Cut(name, unknownDatabase); found {
			beginnings = append(beginnings, before)
		} else {
			known = append(known, name)
		}
	}
	for _, beginning := range beginnings {
		before, _, _ := strings.Cut(beginning, unknownDatabase)
		prefixes = append(prefixes, before)
	}
	return known, prefixes, nil
}
