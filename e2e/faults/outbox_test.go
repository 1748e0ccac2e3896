package faults

import "github.com/stretchr/testify/assert"

// cleaning makes the streamer delete published rows almost at once.
var cleaning = map[string]string{
	"outbox.cleanup.mode": "delete", "outbox.cleanup.time_column": "created_at",
	"outbox.cleanup.retention": "1s", "outbox.cleanup.interval": "100ms", "outbox.cleanup.pause": "1ms",
}

var _ = register(
	fault{
		name: "outbox split by inheritance", group: postgresGroup, expect: refuses,
		what: "a table that inherits from the outbox appears, and a trigger stores all rows in it, " +
			"while the streamer cleans up; after the refusal the rows are moved into the outbox itself",
		says:     []string{`table public.outbox_2026 inherits from outbox table public.outbox`, `NO INHERIT`, position},
		settings: cleaning, prepare: (*run).dateRows,
		strike: (*run).splitByInheritance, refused: (*run).uniteOutbox, judge: apartFromUnpublished,
	},
	fault{
		name: "outbox split by inheritance while down", group: postgresGroup, expect: refuses,
		what: "while the streamer is away, a table that inherits from the outbox appears, and a trigger stores all rows in it; " +
			"after the refusal the rows are moved into the outbox itself",
		says:     []string{`table public.outbox_2026 inherits from outbox table public.outbox`, `NO INHERIT`},
		settings: cleaning, prepare: (*run).dateRows,
		strike: whileDown((*run).splitByInheritance), refused: (*run).uniteOutbox, judge: apartFromUnpublished,
	},
)

// dateRows makes rows say when they were written.
func (r *run) dateRows() {
	r.t.Helper()
	r.exec("alter table outbox add column created_at timestamptz not null default clock_timestamp()")
}

// splitByInheritance stores rows in a table that inherits from the outbox. It
// keeps rows that their own transaction deletes. They are in no stream and
// would otherwise be nowhere.
func (r *run) splitByInheritance() {
	r.t.Helper()
	r.exec(`begin;
		create table outbox_2026 () inherits (outbox);
		create function route() returns trigger language plpgsql as 'begin insert into outbox_2026 values (new.*); return null; end';
		create function keep() returns trigger language plpgsql as 'begin return null; end';
		create trigger route before insert on outbox for each row execute function route();
		create trigger keep before delete on outbox_2026 for each row execute function keep();
		commit`)
	r.written(1 << 14)
}

// uniteOutbox is the operator's remedy, as docs/how-to/clean-up.md describes
// it.
func (r *run) uniteOutbox() {
	r.t.Helper()
	output, code := r.command("verify")
	assert.Equal(r.t, exitRefused, code, output)
	r.exec(`begin;
		lock table outbox in access exclusive mode;
		drop trigger route on outbox;
		insert into outbox select * from outbox_2026 order by created_at;
		drop table outbox_2026;
		commit`)
	r.streamer.start()
}
