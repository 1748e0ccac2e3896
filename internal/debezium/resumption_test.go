package debezium

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func connectorOf(t *testing.T, options string) Connector {
	t.Helper()
	connectors, err := Read([]File{{Name: "connector.properties", Content: []byte("connector.class=" + postgresClass + "\n" + options)}})
	require.NoError(t, err)
	require.Len(t, connectors, 1)
	return connectors[0]
}

const resuming = `topic.prefix=shop
slot.name=Orders
publication.name=orders
plugin.name=pgoutput
publication.autocreate.mode=disabled
snapshot.mode=no_data
offset.mismatch.strategy=trust_slot
`

func TestDeviations(t *testing.T) {
	t.Parallel()
	keeping := Resumption{Slot: "Orders", Publication: "orders", KeepOffsets: true}
	deleting := Resumption{Slot: "Orders", Publication: "orders"}
	for name, c := range map[string]struct {
		options string
		into    Resumption
		fatal   []string
		noted   []string
	}{
		"everything fits":           {resuming, keeping, nil, nil},
		"another spelling":          {resuming + "snapshot.mode=NEVER\noffset.mismatch.strategy=Trust_Slot\n", keeping, nil, nil},
		"another case of a name":    {resuming + "slot.name=orders\n", keeping, []string{"slot.name"}, nil},
		"another strategy":          {resuming + "offset.mismatch.strategy=trust_offset\n", keeping, []string{"offset.mismatch.strategy"}, nil},
		"another, without offsets":  {resuming + "offset.mismatch.strategy=trust_offset\n", deleting, nil, nil},
		"a snapshot":                {resuming + "snapshot.mode=when_needed\n", deleting, []string{"snapshot.mode"}, nil},
		"the slot would be dropped": {resuming + "slot.drop.on.stop=true\n", keeping, []string{"slot.drop.on.stop"}, nil},
		"the publication is altered": {
			resuming + "publication.autocreate.mode=filtered\n", keeping, nil, []string{"publication.autocreate.mode"},
		},
		"values elsewhere": {resuming + "slot.name=${env:SLOT}\n", keeping, nil, []string{"slot.name"}},
		"defaults": {
			"topic.prefix=shop\n", keeping,
			[]string{"slot.name", "publication.name", "plugin.name", "snapshot.mode", "offset.mismatch.strategy"},
			[]string{"publication.autocreate.mode"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var fatal, noted []string
			for _, d := range connectorOf(t, c.options).Deviations(c.into) {
				if d.Fatal {
					fatal = append(fatal, d.Option)
				} else {
					noted = append(noted, d.Option)
				}
				assert.NotContains(t, d.String(), "${")
			}
			assert.Equal(t, c.fatal, fatal)
			assert.Equal(t, c.noted, noted)
		})
	}
}

func TestDeviationInWords(t *testing.T) {
	t.Parallel()
	found := connectorOf(t, resuming+"snapshot.mode=\n").Deviations(Resumption{Slot: "Orders", Publication: "orders", KeepOffsets: true})
	require.Len(t, found, 1)
	assert.Equal(t, "snapshot.mode is initial: it must be no_data, because a snapshot publishes the rows of the table again",
		found[0].String())
	found = connectorOf(t, "").Deviations(Resumption{Slot: "debezium", Publication: "orders"})
	assert.Equal(t, "publication.name is not set, and dbz_publication by default: it must be orders, because the slot is read with it",
		found[0].String())
}
