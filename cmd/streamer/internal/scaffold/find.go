package scaffold

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/replication"
)

// candidate is a table that looks like an outbox.
type candidate struct {
	table  replication.UserTable
	preset *config.Preset // nil: guessed from the names of the columns
	guess  guess          // if there is no preset
}

// certain reports whether the table has all columns of a preset.
func (c candidate) certain() bool { return c.preset != nil }

// why says what makes the table a candidate.
func (c candidate) why() string {
	if c.certain() {
		return fmt.Sprintf("has all columns of preset %s, %s", c.preset.Name, c.preset.Title)
	}
	return "looks like an outbox: " + c.guess.String()
}

func (c candidate) String() string { return c.table.Name + "  " + c.why() }

// candidates finds outbox tables; certain ones come first.
func candidates(tables []replication.UserTable, only string) []candidate {
	var found []candidate
	for _, t := range tables {
		if p := bestPreset(t, only); p != nil {
			found = append(found, candidate{table: t, preset: p})
		} else if g := guessColumns(t); only == "" && g.isLikely() {
			found = append(found, candidate{table: t, guess: g})
		}
	}
	found = slices.DeleteFunc(found, func(c candidate) bool { return c.isOutdone(found) })
	slices.SortStableFunc(found, func(a, b candidate) int { return cmp.Compare(rank(a), rank(b)) })
	return found
}

// isOutdone reports whether another table of the same preset has the name that
// its framework gives the outbox. An inbox may have all the same columns.
func (c candidate) isOutdone(by []candidate) bool {
	return c.certain() && c.table.Name != c.preset.Outbox.Table && slices.ContainsFunc(by, func(other candidate) bool {
		return other.certain() && other.preset.Name == c.preset.Name && other.table.Name == c.preset.Outbox.Table
	})
}

func rank(c candidate) int {
	if c.certain() {
		return 0
	}
	return 1
}

// bestPreset is the preset of which the table has most columns, and all of
// them; nil if there is none.
func bestPreset(t replication.UserTable, only string) *config.Preset {
	var best *config.Preset
	most := 0
	for _, p := range config.Presets() {
		if only != "" && p.Name != only {
			continue
		}
		columns := presetColumns(p)
		score := 2 * len(columns)
		if p.Outbox.Table == t.Name {
			score++
		}
		if len(missing(t, columns)) == 0 && score > most {
			best, most = &p, score
		}
	}
	return best
}

// presetColumns are the columns that a table of the preset has.
func presetColumns(p config.Preset) []string {
	return append(site.Mapping(p.Outbox).ColumnNames(), p.Marks...)
}

// missing are the columns that the table lacks.
func missing(t replication.UserTable, columns []string) []string {
	var lacking []string
	for _, column := range columns {
		if !slices.ContainsFunc(t.Columns, func(have replication.Column) bool { return have.Name == column }) {
			lacking = append(lacking, column)
		}
	}
	return lacking
}

// guess maps keys under outbox.columns to columns whose names suggest it.
type guess map[string]string

// suggestive are names of columns, without underscores and in lower case, the
// most telling first.
var suggestive = []struct {
	key   string
	names []string
}{
	{"id", []string{"eventid", "messageid", "id", "uuid", "guid"}},
	{"aggregate_type", []string{
		"aggregatetype", "aggregate", "entitytype", "streamtype", "topic", "destination", "category", "channel", "aggregatename",
	}},
	{"aggregate_id", []string{
		"aggregateid", "aggregaterootid", "aggregateidentifier", "entityid", "streamid", "streamname", "partitionkey", "messagekey", "eventkey",
		"routingkey", "key", "correlationkey", "subject",
	}},
	{"type", []string{"eventtype", "messagetype", "type", "eventname", "messagename", "kind", "name"}},
	{"payload", []string{
		"payload", "eventdata", "eventpayload", "messagepayload", "data", "body", "event", "message", "messagebody", "content", "value",
		"serializedevent",
	}},
	{"time", []string{
		"occurredat", "occurredon", "occurredonutc", "createdat", "createdon", "createdonutc", "created", "timestamp", "eventtime", "insertedat",
		"time",
	}},
}

func guessColumns(t replication.UserTable) guess {
	g := guess{}
	for _, s := range suggestive {
		for _, name := range s.names {
			at := slices.IndexFunc(t.Columns, func(c replication.Column) bool { return plainName(c.Name) == name })
			if at >= 0 && (s.key != "time" || strings.HasPrefix(t.Columns[at].Base, "timestamp")) {
				g[s.key] = t.Columns[at].Name
				break
			}
		}
	}
	return g
}

func plainName(column string) string { return strings.ToLower(strings.ReplaceAll(column, "_", "")) }

// isLikely reports whether what an event needs is there.
func (g guess) isLikely() bool { return g["id"] != "" && g["type"] != "" && g["payload"] != "" }

func (g guess) String() string {
	var parts []string
	for _, s := range suggestive {
		if column := g[s.key]; column != "" {
			parts = append(parts, s.key+" in "+column)
		}
	}
	return strings.Join(parts, ", ")
}
