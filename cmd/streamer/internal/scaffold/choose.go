package scaffold

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
)

// choose looks at the database and returns the settings that describe its
// outbox table.
func (s *scaffold) choose(ctx context.Context, settings map[string]string) (map[string]string, error) {
	loaded, err := s.load(settings)
	if err != nil {
		return nil, err
	}
	control, _, err := site.ConnectPostgres(ctx, loaded.Config)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	tables, err := userTables(ctx, control)
	if err != nil {
		return nil, err
	}
	named := loaded.Origins["outbox.table"] != "default" && !strings.HasPrefix(loaded.Origins["outbox.table"], "preset ")
	c, err := s.candidate(tables, named, loaded.Config.Outbox)
	if err != nil {
		return nil, err
	}
	s.table = c.table
	fmt.Fprintf(s.std.Err, "streamer: table %s %s\n", c.table.Name, c.why())
	if err := s.dispatched(ctx, control, c); err != nil {
		return nil, err
	}
	if err := s.filled(ctx, control); err != nil {
		return nil, err
	}
	return s.describe(c, settings)
}

// filled says what becomes of the rows that the table has already.
func (s *scaffold) filled(ctx context.Context, control *replication.Control) error {
	ctx, cancel := context.WithTimeout(ctx, site.AskTimeout)
	defer cancel()
	table, err := control.DescribeTable(ctx, replication.Outbox{Table: s.table.Name})
	if err != nil {
		return err
	}
	count, err := control.CountRows(ctx, table, replication.SnapshotQuery{})
	if err != nil || count.Rows == 0 {
		return err
	}
	s.remarks["snapshot.mode"] = fmt.Sprintf(
		"The table has %s, which are not published. initial publishes them first, in the order of the column that snapshot.order_by names.",
		console.AboutRows(count.Rows, count.Exact),
	)
	fmt.Fprintf(s.std.Err, "streamer: the table has %s, which are not published unless snapshot.mode is initial\n",
		console.AboutRows(count.Rows, count.Exact))
	return nil
}

func userTables(ctx context.Context, control *replication.Control) ([]replication.UserTable, error) {
	ctx, cancel := context.WithTimeout(ctx, site.AskTimeout)
	defer cancel()
	return control.UserTables(ctx)
}

// candidate is the table to publish: the one that is named, or the only one, or
// the one that the operator chooses.
func (s *scaffold) candidate(tables []replication.UserTable, named bool, outbox config.Outbox) (candidate, error) {
	if named {
		return namedCandidate(tables, outbox)
	}
	found := candidates(tables, outbox.Preset)
	var lines []string
	for _, c := range found {
		lines = append(lines, c.String())
	}
	switch {
	case len(found) == 0:
		return candidate{}, failure.Misconfigure(failure.Advise(
			fmt.Errorf(
				"no table of the database looks like an outbox%s: %s looked at", ofPreset(outbox.Preset), console.Counted(len(tables), "table"),
			),
			"name the table with --table; README.md shows one that needs no configuration",
		))
	case len(found) == 1, found[0].certain() && !found[1].certain() && s.asker == nil:
		return found[0], nil
	case s.asker == nil:
		return candidate{}, failure.Misconfigure(failure.Advise(
			fmt.Errorf("several tables look like an outbox:\n  %s", strings.Join(lines, "\n  ")), "name one with --table",
		))
	}
	chosen, err := s.asker.choice("Which table is the outbox?", lines)
	if err != nil {
		return candidate{}, err
	}
	return found[chosen], nil
}

func ofPreset(name string) string {
	if name == "" {
		return ""
	}
	return " of preset " + name
}

// namedCandidate is the table that the operator names.
func namedCandidate(tables []replication.UserTable, outbox config.Outbox) (candidate, error) {
	at := slices.IndexFunc(tables, func(t replication.UserTable) bool { return t.Name == outbox.Table })
	if at < 0 {
		return candidate{}, failure.Misconfigure(failure.Advise(
			fmt.Errorf("the database has no table %s whose rows are in the WAL", outbox.Table),
			"create it with your migrations, or name another with --table; names are spelled as in the catalog",
		))
	}
	t := tables[at]
	if p, ok := config.FindPreset(outbox.Preset); ok {
		return candidate{table: t, preset: &p}, nil
	}
	if p := bestPreset(t, ""); p != nil {
		return candidate{table: t, preset: p}, nil
	}
	return candidate{table: t, guess: guessColumns(t)}, nil
}

// describe returns the keys under outbox. What the operator sets takes
// precedence.
func (s *scaffold) describe(c candidate, settings map[string]string) (map[string]string, error) {
	chosen := map[string]string{"outbox.table": c.table.Name}
	if c.certain() {
		chosen["outbox.preset"] = c.preset.Name
		s.remarks["outbox.columns"] = "What the preset says:"
		return without(chosen, settings), nil
	}
	if err := s.complete(c, settings); err != nil {
		return nil, err
	}
	for _, suggestion := range suggestive {
		chosen["outbox.columns."+suggestion.key] = c.guess[suggestion.key]
	}
	if c.guess["time"] == "" {
		delete(chosen, "outbox.columns.time")
	}
	if c.guess["aggregate_type"] == "" && settings["outbox.columns.aggregate_type"] == "" {
		constant, err := s.aggregateType(c.table)
		if err != nil {
			return nil, err
		}
		chosen["outbox.defaults.aggregate_type"] = constant
	}
	return without(chosen, settings), nil
}

// without leaves out what the operator sets.
func without(chosen, settings map[string]string) map[string]string {
	for key := range settings {
		delete(chosen, key)
	}
	return chosen
}

// complete asks for what the names of the columns do not tell, or says what is
// missing.
func (s *scaffold) complete(c candidate, settings map[string]string) error {
	for _, suggestion := range suggestive {
		key := "outbox.columns." + suggestion.key
		switch {
		case c.guess[suggestion.key] != "", settings[key] != "", settings["outbox.defaults."+suggestion.key] != "":
			continue
		case suggestion.key == "time", suggestion.key == "aggregate_type":
			continue // there is a default
		}
		column, err := s.column(c, suggestion.key)
		if err != nil {
			return err
		}
		c.guess[suggestion.key] = column
	}
	return nil
}

// meanings say what a column holds.
var meanings = map[string]string{
	"id": "the event ID", "aggregate_id": "the aggregate ID, which is the key in Kafka", "type": "the event type", "payload": "the payload",
}

func (s *scaffold) column(c candidate, key string) (string, error) {
	problem := fmt.Errorf("no column of %s looks like %s", c.table.Name, meanings[key])
	fallback := c.guess["id"]
	if s.asker == nil {
		remedy := "name it: --set outbox.columns." + key + "=COLUMN"
		if key == "aggregate_id" && fallback != "" {
			remedy += "; for events without order, --set outbox.columns.aggregate_id=" + fallback
		}
		return "", failure.Misconfigure(failure.Advise(problem, "%s", remedy))
	}
	fmt.Fprintf(s.std.Err, "%s. It has: %s\n", upperFirst(problem.Error()), names(c.table))
	question := "Column, or column#/json/pointer"
	if key == "aggregate_id" {
		question += " (the event ID means events without order)"
	}
	return s.asker.text(question, fallback)
}

func upperFirst(text string) string { return strings.ToUpper(text[:1]) + text[1:] }

func names(t replication.UserTable) string {
	var all []string
	for _, c := range t.Columns {
		all = append(all, c.Name)
	}
	return strings.Join(all, ", ")
}

// aggregateType is a constant for a table that has no column for it.
func (s *scaffold) aggregateType(t replication.UserTable) (string, error) {
	_, name := config.SplitTable(t.Name)
	fallback := strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '_' || r == '-' || r == '.' {
			return r
		}
		return '-'
	}, name)
	if s.asker == nil {
		return fallback, nil
	}
	return s.asker.text("No column holds the aggregate type, which is in the topic's name. Aggregate type of all events", fallback)
}
