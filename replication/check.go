package replication

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pgsession"
)

// Finding is one result of a check.
type Finding struct {
	// Fatal findings stop the streamer: to go on would lose or invent events.
	Fatal bool `json:"fatal"`
	// Problem is a sentence that names the object concerned.
	Problem string `json:"problem"`
	// Remedy is what to do, if possible something to paste.
	Remedy string `json:"remedy"`
}

func (f Finding) Error() string { return f.Problem }

// Fix is the remedy, as package failure asks for it.
func (f Finding) Fix() string { return f.Remedy }

// Refusal joins the fatal findings into one error that stops the process. It
// returns nil if there are none.
func Refusal(findings []Finding) error {
	var fatal []error
	for _, f := range findings {
		if f.Fatal {
			fatal = append(fatal, f)
		}
	}
	return failure.Refuse(errors.Join(fatal...))
}

// CheckServer checks the server settings that decide whether its WAL can be
// decoded safely.
func CheckServer(s Server, c Config) []Finding {
	var found []Finding
	if s.WALLevel != "logical" {
		found = append(found, Finding{
			true,
			fmt.Sprintf("wal_level of the server is %q, but logical decoding needs \"logical\"", s.WALLevel),
			"ALTER SYSTEM SET wal_level = 'logical' and restart PostgreSQL (on Amazon RDS: rds.logical_replication = 1)",
		})
	}
	if standbyNamesMatch(s.SynchronousStandbyNames, c.ApplicationName()) {
		found = append(found, Finding{
			true,
			fmt.Sprintf(
				"synchronous_standby_names = '%s' matches application_name %q: commits of the application would wait for the streamer",
				s.SynchronousStandbyNames, c.ApplicationName(),
			),
			"name the standbys in synchronous_standby_names instead of '*'",
		})
	}
	if s.Pooled {
		found = append(found, Finding{
			false,
			"the SQL connection is served by another process than announced: a pooler or proxy is in between, " +
				"and with transaction pooling the lock that keeps a second streamer waiting is lost",
			pgsession.DirectRemedy(dsnKey),
		})
	}
	found = append(found, checkShard(s, c)...)
	if known := badMinor(s.Version); known != "" {
		found = append(found, Finding{false, "PostgreSQL " + versionText(s.Version) + " " + known, "update to the newest minor release"})
	}
	return found
}

// standbyNamesMatch reads synchronous_standby_names: an optional FIRST n or ANY
// n, then a list of names, which are compared case-insensitively.
func standbyNamesMatch(setting, application string) bool {
	list := setting
	if _, after, ok := strings.Cut(setting, "("); ok {
		list = strings.TrimSuffix(strings.TrimSpace(after), ")")
	}
	for name := range strings.SplitSeq(list, ",") {
		name = strings.Trim(strings.TrimSpace(name), `"`)
		if name == "*" || strings.EqualFold(name, application) {
			return true
		}
	}
	return false
}

// badMinor names the defect of a release in which rows were seen to get lost on
// the server's side (P-23).
func badMinor(version int) string {
	firstGood := map[int]int{14: 18, 15: 13, 16: 9, 17: 5}
	minor, known := firstGood[version/10000]
	if known && version%10000 < minor {
		return fmt.Sprintf(
			"can lose rows when a table is added to a publication while a transaction on it is open (fixed in %d.%d)",
			version/10000, minor,
		)
	}
	return ""
}

func versionText(version int) string { return fmt.Sprintf("%d.%d", version/10000, version%10000) }

// CheckSlot checks whether the slot suits what the streamer is about to do with
// it.
func CheckSlot(slot Slot, s Server) []Finding {
	var found []Finding
	fatal := func(remedy, format string, arguments ...any) {
		found = append(found, Finding{true, fmt.Sprintf("slot %q ", slot.Name) + fmt.Sprintf(format, arguments...), remedy})
	}
	switch {
	case slot.Type != "logical":
		fatal("choose another postgres.slot, or drop this slot and run `streamer setup`", "is a %s slot, not a logical one", slot.Type)
	case slot.Plugin != "pgoutput":
		fatal("choose another postgres.slot, or drop this slot and run `streamer setup`", "uses the output plugin %q, not pgoutput", slot.Plugin)
	case slot.Database != s.Database:
		fatal(
			"name the slot's database in postgres.dsn, or choose another postgres.slot",
			"belongs to database %q, but postgres.dsn names %q",
			slot.Database, s.Database,
		)
	case slot.Temporary:
		fatal("choose another postgres.slot", "is temporary and ends with its session")
	case slot.Lost():
		why := slot.InvalidationReason
		if why == "" {
			why = "wal_status " + slot.WALStatus
		}
		fatal(
			"delete nothing from the outbox table, and start over: 1. SELECT pg_drop_replication_slot("+quoteLiteral(slot.Name)+"), "+
				"2. `streamer setup`, 3. `streamer checkpoint set slot --yes`, 4. `streamer run`, "+
				"and alongside it 5. `streamer replay --missing` (docs/how-to/slot-lost.md)",
			"is lost (%s): what was committed after %s is no longer in the WAL",
			why, slot.Confirmed,
		)
	case slot.TwoPhase:
		fatal("drop the slot and run `streamer setup`", "has two_phase on: prepared transactions would be published before they commit")
	}
	return found
}

// CheckPosition compares the stored checkpoint with the slot and the server
// (R8). PostgreSQL itself accepts every position and silently skips.
func CheckPosition(checkpoint LSN, slot Slot) []Finding {
	switch {
	case checkpoint > slot.Flushed:
		return []Finding{{
			true,
			fmt.Sprintf(
				"the checkpoint %s is ahead of the server, whose WAL ends at %s: this server does not have everything that was published",
				checkpoint, slot.Flushed,
			),
			"compare the outbox table with Kafka, then decide with `streamer checkpoint set`: " +
				"the server was restored from a backup or failed over to a standby that lagged",
		}}
	case checkpoint < slot.Confirmed:
		return []Finding{{
			true,
			fmt.Sprintf(
				"slot %q begins at %s, after the checkpoint %s: events committed between the two would be skipped; "+
					"the slot was re-created, or moved by another client",
				slot.Name, slot.Confirmed, checkpoint,
			),
			"accept the gap with `streamer checkpoint set slot --yes`, start `streamer run`, " +
				"and publish what is missing from the outbox table with `streamer replay --missing` (docs/how-to/slot-lost.md); " +
				"if it was given back to Debezium, stop Debezium and run `streamer take-over debezium` instead",
		}}
	}
	return nil
}

// CheckPublished compares the position of the last published row with the
// server.
func CheckPublished(last Position, slot Slot) []Finding {
	if last.Commit < slot.Flushed {
		return nil
	}
	return []Finding{{
		true,
		fmt.Sprintf(
			"rows up to position %s were published, but the WAL of this server ends at %s: this server does not have everything that was published",
			last, slot.Flushed,
		),
		"compare the outbox table with Kafka, then decide with `streamer checkpoint set`: " +
			"the server was restored from a backup or failed over to a standby that lagged",
	}}
}

// Table is what the catalog says about an outbox table and its publication.
type Table struct {
	Outbox      Outbox // as it is configured
	Exists      bool
	OID         uint32
	Kind        string // r: table, p: partitioned table; another kind has the name without being a table
	Persistence string // p: permanent
	Columns     []Column
	Strays      []Stray

	Publication  bool // whether it exists
	Inserts      bool
	OtherActions []string // updates, deletes, truncates
	ViaRoot      bool
	AllTables    bool
	Published    bool // whether the table is in the publication
	Attributes   []string
	RowFilter    string
	OtherTables  []string

	footing footing // see Membership
	end     LSN     // of the WAL, when the table was described
	version int     // server_version_num
	// encoding is the database's.
	encoding string
}

// Charset converts the text of the table's rows in the stream.
func (t Table) Charset() *Charset { return NewCharset(t.encoding) }

// describeAttempts bounds how often the catalog is read again because it has
// changed in the meantime.
const describeAttempts = 5

// DescribeTables describes the outbox tables, in the order of the
// configuration. Those that match a pattern are sorted by name. A pattern
// without a match stands for itself.
func (c *Control) DescribeTables(ctx context.Context) ([]Table, error) {
	outboxes, err := c.matching(ctx)
	if err != nil {
		return nil, err
	}
	tables := make([]Table, len(outboxes))
	for i, o := range outboxes {
		if tables[i], err = c.DescribeTable(ctx, o); err != nil {
			return nil, err
		}
	}
	return tables, nil
}

// DescribeTable reads the catalog as of one moment.
func (c *Control) DescribeTable(ctx context.Context, o Outbox) (Table, error) {
	version := c.conn.PgConn().ParameterStatus("server_version")
	before, err := readFooting(ctx, c.conn, version, c.config.Publication, o)
	for range describeAttempts {
		if err != nil {
			return Table{}, err
		}
		var t Table
		if t, err = c.describe(ctx, o); err != nil {
			return t, err
		}
		if t.footing, err = readFooting(ctx, c.conn, version, c.config.Publication, o); err == nil && t.footing.same(before) {
			return t, nil
		}
		before = t.footing
	}
	if err == nil {
		err = fmt.Errorf("description of table %s: it keeps changing", o.Table)
	}
	return Table{}, err
}

func (c *Control) describe(ctx context.Context, o Outbox) (Table, error) {
	t := Table{Outbox: o}
	var end int64
	schema, table := SplitTable(o.Table)
	err := c.conn.QueryRow(ctx, `select c.oid, c.relkind::text, c.relpersistence::text,
			((case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn() end) - '0/0'::pg_lsn)::bigint,
			current_setting('server_version_num')::int, current_setting('server_encoding')
		from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2`, schema, table).
		Scan(&t.OID, &t.Kind, &t.Persistence, &end, &t.version, &t.encoding)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return t, nil
	case err != nil:
		return t, fmt.Errorf("description of table %s: %w", t.Outbox.Table, err)
	case t.Kind != "r" && t.Kind != "p":
		return Table{Outbox: o, Kind: t.Kind}, nil
	}
	t.Exists, t.end = true, LSN(end)
	if err := c.describeColumns(ctx, &t); err != nil {
		return t, err
	}
	if err := c.describeStrays(ctx, &t); err != nil {
		return t, err
	}
	return t, c.describePublication(ctx, &t, schema, table)
}

// otherKinds are what can have the name of a table without being one, by
// pg_class.relkind.
var otherKinds = map[string]string{
	"v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence", "c": "a composite type",
	"i": "an index", "I": "an index",
}

// Missing is the finding about an outbox table that does not exist.
func (t Table) Missing() Finding {
	if t.Outbox.Pattern == t.Outbox.Table && t.Outbox.Pattern != "" {
		return Finding{
			true, fmt.Sprintf("no table matches %s, which outboxes names", t.Outbox.Pattern),
			"correct the pattern, or create and publish the first table",
		}
	}
	kind, other := otherKinds[t.Kind]
	if !other {
		return Finding{
			true, fmt.Sprintf("outbox table %s does not exist", t.Outbox.Table),
			"create the table (`streamer setup --print` shows the SQL), or name another in outbox.table",
		}
	}
	remedy := "name a table in outbox.table"
	switch t.Kind {
	case "v", "m":
		remedy = "name the table from which it reads in outbox.table, and map that table's columns under outbox.columns"
	case "f":
		remedy = "name the server that has the table in postgres.dsn"
	}
	return Finding{true, fmt.Sprintf("%s, which outbox.table names, is %s: only rows of a table are in the WAL", t.Outbox.Table, kind), remedy}
}

func (c *Control) describePublication(ctx context.Context, t *Table, schema, table string) error {
	var updates, deletes, truncates bool
	err := c.conn.QueryRow(
		ctx,
		`select pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot, puballtables from pg_publication where pubname = $1`,
		c.config.Publication,
	).Scan(&t.Inserts, &updates, &deletes, &truncates, &t.ViaRoot, &t.AllTables)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("description of publication %q: %w", c.config.Publication, err)
	}
	t.Publication = true
	for name, on := range map[string]bool{"update": updates, "delete": deletes, "truncate": truncates} {
		if on {
			t.OtherActions = append(t.OtherActions, name)
		}
	}
	slices.Sort(t.OtherActions)
	return c.describePublished(ctx, t, schema, table)
}

// describePublished asks through JSON because attnames and rowfilter exist only
// since PostgreSQL 15.
func (c *Control) describePublished(ctx context.Context, t *Table, schema, table string) error {
	rows, err := c.conn.Query(ctx, `select schemaname::text, tablename::text,
			coalesce(to_jsonb(p)->>'rowfilter', ''),
			array(select jsonb_array_elements_text(coalesce(nullif(to_jsonb(p)->'attnames', 'null'), '[]')))
		from pg_publication_tables p where pubname = $1`, c.config.Publication)
	if err != nil {
		return fmt.Errorf("tables of publication %q: %w", c.config.Publication, err)
	}
	defer rows.Close()
	for rows.Next() {
		var s, n, filter string
		var attributes []string
		if err := rows.Scan(&s, &n, &filter, &attributes); err != nil {
			return fmt.Errorf("tables of publication %q: %w", c.config.Publication, err)
		}
		if s == schema && n == table {
			t.Published, t.RowFilter, t.Attributes = true, filter, attributes
		} else {
			t.OtherTables = append(t.OtherTables, s+"."+n)
		}
	}
	return rows.Err()
}

// CheckPublication makes sure that there is the publication where no table says
// so: PostgreSQL looks it up as soon as any table is written to, also where only
// messages are read.
func CheckPublication(s Server, c Config) []Finding {
	if c.readsTables() || s.Publication {
		return nil
	}
	return []Finding{noPublication(c)}
}

func noPublication(c Config) Finding {
	return Finding{
		true, fmt.Sprintf("publication %q does not exist", c.Publication),
		"create the publication before the slot: `streamer setup`, or `streamer setup --print` for the SQL",
	}
}

// CheckTables compares the catalog with the configuration.
func CheckTables(tables []Table, c Config) []Finding {
	var found []Finding
	said := map[string]bool{} // what is wrong with the publication is wrong for all
	known := map[string]bool{}
	for _, t := range tables {
		if known[t.Outbox.Table] {
			found = append(found, Finding{
				true, fmt.Sprintf("table %s belongs to two entries of outboxes", t.Outbox.Table), "narrow the pattern, or remove one of the two",
			})
		}
		known[t.Outbox.Table] = true
		for _, f := range CheckTable(t, c) {
			if !said[f.Problem] {
				said[f.Problem] = true
				found = append(found, f)
			}
		}
	}
	return append(found, checkSources(tables)...)
}

// checkSources refuses tables whose events consumers could take for one another.
func checkSources(tables []Table) []Finding {
	var found []Finding
	first := map[string]Table{}
	for _, t := range tables {
		other, again := first[t.Outbox.Source]
		if !again {
			first[t.Outbox.Source] = t
			continue
		}
		for _, one := range []Table{t, other} {
			if typ := columnType(one, one.Outbox.ID); typ != "uuid" && typ != "" {
				found = append(found, Finding{
					true,
					fmt.Sprintf("events of tables %s and %s have the same source %q, and ids of %s are %s: two events could have one source and id",
						other.Outbox.Table, t.Outbox.Table, t.Outbox.Source, one.Outbox.Table, typ),
					"give each entry of outboxes its own source, or put {table} into cloudevents.source",
				})
				break
			}
		}
	}
	return found
}

// CheckTable is CheckTables for one table.
func CheckTable(t Table, c Config) []Finding {
	if !t.Exists {
		return []Finding{t.Missing()}
	}
	var found []Finding
	if t.Persistence != "p" {
		found = append(found, Finding{
			true, fmt.Sprintf("outbox table %s is not logged: its rows never reach the WAL", t.Outbox.Table),
			"ALTER TABLE " + QuoteTable(t.Outbox.Table) + " SET LOGGED",
		})
	}
	found = append(found, checkColumns(t, c)...)
	found = append(found, checkStrays(t)...)
	return append(found, checkPublication(t, c)...)
}

func checkPublication(t Table, c Config) []Finding {
	name := quoteIdentifier(c.Publication)
	var found []Finding
	add := func(fatal bool, remedy, format string, arguments ...any) {
		found = append(found, Finding{fatal, fmt.Sprintf("publication %q ", c.Publication) + fmt.Sprintf(format, arguments...), remedy})
	}
	// In one transaction, so that no row falls between the two.
	publishAgain := fmt.Sprintf(
		"BEGIN; ALTER PUBLICATION %s DROP TABLE %s; ALTER PUBLICATION %s ADD TABLE %s; COMMIT",
		name, QuoteTable(t.Outbox.Table), name, QuoteTable(t.Outbox.Table),
	)
	if !t.Publication {
		return append(found, noPublication(c))
	}
	if !t.Inserts {
		actions := strings.Join(append([]string{"insert"}, t.OtherActions...), ", ")
		add(true, "ALTER PUBLICATION "+name+" SET (publish = "+quoteLiteral(actions)+")", "does not publish inserts")
	}
	if t.Kind == "p" && !t.ViaRoot {
		add(
			true, "ALTER PUBLICATION "+name+" SET (publish_via_partition_root = true)",
			"publishes the partitions of %s under their own names",
			t.Outbox.Table,
		)
		return found // the catalog lists the partitions instead of the table
	}
	if !t.Published {
		what := ""
		if t.Outbox.Pattern != "" {
			what = fmt.Sprintf(", which matches %s: its rows are not published", t.Outbox.Pattern)
		}
		add(
			t.Outbox.Pattern == "", "ALTER PUBLICATION "+name+" ADD TABLE "+QuoteTable(t.Outbox.Table),
			"does not contain table %s%s", t.Outbox.Table, what,
		)
		return found
	}
	switch filter := t.RowFilter; {
	case c.Shard.matches(filter, t):
	case c.Shard.whole():
		add(true, publishAgain, "filters rows of %s: WHERE %s", t.Outbox.Table, filter)
	case filter == "":
		add(
			true, "choose another postgres.publication, and let `streamer setup` create it",
			"publishes all rows of %s, not only those of shard %d of %d",
			t.Outbox.Table, c.Shard.Index, c.Shard.Count,
		)
	default:
		add(
			true, "choose another postgres.publication, and let `streamer setup` create it",
			"publishes rows of %s that are not those of shard %d of %d: WHERE %s",
			t.Outbox.Table, c.Shard.Index, c.Shard.Count, filter,
		)
	}
	for _, column := range t.Outbox.Columns {
		have, exists := t.column(column)
		if len(t.Attributes) > 0 && exists && have.Generated == "" && !slices.Contains(t.Attributes, column) {
			add(true, publishAgain, "leaves out column %q of %s", column, t.Outbox.Table)
		}
	}
	if len(t.OtherActions) > 0 {
		add(
			false,
			"give "+QuoteTable(t.Outbox.Table)+" a primary key, or, if no one else needs the other actions, ALTER PUBLICATION "+name+
				" SET (publish = 'insert'), while the streamer runs, so that it sees that no row was left out",
			"also publishes %s: without a replica identity the application's own clean-up of the outbox would fail",
			strings.Join(t.OtherActions, ", "),
		)
	}
	return found
}
