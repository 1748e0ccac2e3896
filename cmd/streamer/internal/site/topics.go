package site

import (
	"strings"

	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/router"
)

// NewRouter makes the routes for callers that need no stream.
func NewRouter(cfg config.Config, database string) (*router.Router, error) {
	r := Rules(cfg)
	r.Database = database
	return router.NewRouter(r)
}

// UnknownDatabase replaces the name of the database where no connection can
// supply it.
const UnknownDatabase = "unknown-database"

// KnownTopics returns the topics that the rules can lead to: names, and the
// prefixes of other names. Without a database, a name that contains {database}
// is known only up to that placeholder.
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
