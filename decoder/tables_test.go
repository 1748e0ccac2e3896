package decoder

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// simple are the mapping and the columns of a table whose columns have the
// names of what they hold, with a prefix.
func simple(schema, table, prefix string, extensions map[string]string) (Mapping, []testColumn) {
	m := Mapping{Schema: schema, Table: table, Columns: map[Attribute]string{}, Extensions: extensions}
	var columns []testColumn
	for _, a := range []Attribute{ID, AggregateType, AggregateID, Type, Payload} {
		m.Columns[a] = prefix + a.String()
		columns = append(columns, testColumn{prefix + a.String(), oidText})
	}
	for _, column := range extensions {
		columns = append(columns, testColumn{column, oidText})
	}
	return m, columns
}

// decodeAll decodes messages and returns the rows among them as "table:id", with
// the value of the first extension.
func decodeAll(d *Decoder, messages ...[]byte) (rows []string, err error) {
	for _, message := range messages {
		kind, err := d.Decode(message)
		if err != nil {
			return rows, err
		}
		if kind == Row {
			e := d.Event()
			row := e.Names.Name + ":" + string(e.Attribute(ID))
			if len(e.Extensions) > 0 {
				row += "/" + e.Extensions[0].Name + "=" + string(e.Extensions[0].Value)
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// Each table's rows are read by its own mapping, and counted together.
func TestSeveralTables(t *testing.T) {
	t.Parallel()
	one, oneColumns := simple("sales", "outbox", "", nil)
	two, twoColumns := simple("stock", "Events", "x_", map[string]string{"tenantid": "tenant"})
	d := New(one, two)
	rows, err := decodeAll(d,
		beginMessage(100, time.Now()),
		relationMessage(1, "sales", "outbox", oneColumns...),
		insertMessage(1, "a", "order", "o1", "placed", "{}"),
		relationMessage(2, "stock", "Events", twoColumns...),
		insertMessage(2, "b", "order", "o1", "placed", "{}", "acme"),
		relationMessage(3, "stock", "outbox", oneColumns...),
		insertMessage(3, "c", "order", "o1", "placed", "{}"),
		insertMessage(1, "d", "order", "o1", "placed", "{}"),
	)
	require.NoError(t, err)
	assert.Equal(t, []string{"sales.outbox:a", "stock.Events:b/tenantid=acme", "sales.outbox:d"}, rows)
	assert.EqualValues(t, 3, d.Event().Position.Ordinal, "rows of other tables are not counted")
	assert.EqualValues(t, 1, d.Ignored())
	assert.Empty(t, d.Event().Extensions, "those of the other table are gone")

	counts := map[string]int64{}
	d.Rows(func(table string, rows int64) { counts[table] += rows })
	assert.Equal(t, map[string]int64{"sales.outbox": 2, "stock.Events": 1}, counts)
	d.Rows(func(table string, _ int64) { t.Errorf("%s was counted already", table) })
}

// A row that is no event belongs to its table nevertheless.
func TestPoisonOfOneOfSeveralTables(t *testing.T) {
	t.Parallel()
	one, oneColumns := simple("sales", "outbox", "", nil)
	two, twoColumns := simple("stock", "Events", "x_", nil)
	d := New(one, two)
	rows, err := decodeAll(d,
		beginMessage(100, time.Now()),
		relationMessage(1, "sales", "outbox", oneColumns...),
		relationMessage(2, "stock", "Events", twoColumns...),
		insertMessage(1, "a", "order", "o1", "placed", "{}"),
		insertMessage(2, "b", "order", nil, "placed", "{}"),
	)
	assert.Equal(t, []string{"sales.outbox:a"}, rows)
	poison := &PoisonError{}
	require.ErrorAs(t, err, &poison)
	assert.Contains(t, poison.Reason, `column "x_aggregate_id"`)
	assert.Equal(t, 1, d.Event().Table)
	assert.Equal(t, "stock.Events", d.Event().Names.Name)
	assert.Equal(t, "x_id", d.Columns()[0].Name)
}

// All tables that match a pattern are read, also one that appears later.
func TestTablesOfAPattern(t *testing.T) {
	t.Parallel()
	m, columns := simple("tenant_*", "outbox", "", nil)
	d := New(m)
	rows, err := decodeAll(d,
		beginMessage(100, time.Now()),
		relationMessage(1, "tenant_1", "outbox", columns...),
		relationMessage(2, "tenant", "outbox", columns...),
		relationMessage(3, "tenant_1", "outbox_old", columns...),
		insertMessage(1, "a", "order", "o1", "placed", "{}"),
		insertMessage(2, "b", "order", "o1", "placed", "{}"),
		insertMessage(3, "c", "order", "o1", "placed", "{}"),
		commitMessage(100, 110),
		beginMessage(200, time.Now()),
		relationMessage(4, "tenant_a.b", "outbox", columns...),
		insertMessage(4, "d", "order", "o1", "placed", "{}"),
		insertMessage(1, "e", "order", "o1", "placed", "{}"),
	)
	require.NoError(t, err)
	assert.Equal(t, []string{"tenant_1.outbox:a", `"tenant_a.b".outbox:d`, "tenant_1.outbox:e"}, rows)
	_, err = decodeAll(d, relationMessage(1, "tenant_1", "former", columns...))
	require.ErrorContains(t, err, "outbox table tenant_1.outbox was renamed to tenant_1.former")
	_, err = decodeAll(d, relationMessage(5, "tenant_5", "outbox", columns[1:]...))
	require.ErrorContains(t, err, "no column id of outbox table tenant_5.outbox")
}

// Two outbox tables that change names change their mappings.
func TestTablesThatSwapNames(t *testing.T) {
	t.Parallel()
	one, columns := simple("public", "a", "", nil)
	two, _ := simple("public", "b", "", nil)
	d := New(one, two)
	rows, err := decodeAll(d,
		beginMessage(100, time.Now()),
		relationMessage(1, "public", "a", columns...),
		relationMessage(2, "public", "b", columns...),
		insertMessage(1, "1", "order", "o1", "placed", "{}"),
		insertMessage(2, "2", "order", "o1", "placed", "{}"),
		commitMessage(100, 110),
		beginMessage(200, time.Now()),
		relationMessage(1, "public", "b", columns...),
		relationMessage(2, "public", "a", columns...),
		insertMessage(1, "3", "order", "o1", "placed", "{}"),
		insertMessage(2, "4", "order", "o1", "placed", "{}"),
	)
	require.NoError(t, err)
	assert.Equal(t, []string{"public.a:1", "public.b:2", "public.b:3", "public.a:4"}, rows)
}
