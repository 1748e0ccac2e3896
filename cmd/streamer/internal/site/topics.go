package site

import (
	"strings"

	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/router"
)

// NewRouter makes the routes for what needs no stream.
func NewRouter(cfg config.Config, database string) (*router.Router, error) {
	r := Rules(cfg)
	r.Database = database
	return router.NewRouter(r)
}

// UnknownDatabase stands for the name of the database where there is no
// connection to ask.
const UnknownDatabase = "unknown-database"

// KnownTopics are the topics that the rules can lead to: names, and what other
// names begin with. Without a database, names with {database} in them are known
// up to there.
func KnownTopics(cfg config.Config, database string) (known, prefixes []string, err error) {
	if database == "" {
		database = UnknownDatabase
	}
	routes, err := NewRouter(cfg, database)
	if err != nil {
		return nil, nil, err
	}
	names, beginnings := routes.Topics()
	for _, name := range names {
		if before, _, found := strings.Cut(name, UnknownDatabase); found {
			beginnings = append(beginnings, before)
		} else {
			known = append(known, name)
		}
	}
	for _, beginning := range beginnings {
		before, _, _ := strings.Cut(beginning, UnknownDatabase)
		prefixes = append(prefixes, before)
	}
	return known, prefixes, nil
}
