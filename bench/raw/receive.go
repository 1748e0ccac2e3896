package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// receive reads the stream of a slot the plain way, message after message, and
// discards it: what pg_recvlogical does, for machines without it.
func receive(ctx context.Context, o options) (err error) {
	end, err := pglogrepl.ParseLSN(o.end)
	if err != nil {
		return fmt.Errorf("end: %w", err)
	}
	config, err := pgconn.ParseConfig(o.dsn)
	if err != nil {
		return fmt.Errorf("DSN: %w", err)
	}
	config.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	err = pglogrepl.StartReplication(ctx, conn, o.slot, 0, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", "publication_names " + quote(o.publication)},
	})
	if err != nil {
		return fmt.Errorf("start replication: %w", err)
	}
	for {
		message, err := conn.ReceiveMessage(ctx)
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		data, ok := message.(*pgproto3.CopyData)
		if !ok {
			return fmt.Errorf("receive: unexpected %T", message)
		}
		at, err := position(data.Data)
		if err != nil {
			return err
		}
		if at >= end {
			return nil
		}
	}
}

// position is the position of a row of the WAL, or the end of the WAL in a
// keepalive.
func position(data []byte) (pglogrepl.LSN, error) {
	switch data[0] {
	case pglogrepl.XLogDataByteID:
		row, err := pglogrepl.ParseXLogData(data[1:])
		return row.WALStart, err
	case pglogrepl.PrimaryKeepaliveMessageByteID:
		keepalive, err := pglogrepl.ParsePrimaryKeepaliveMessage(data[1:])
		return keepalive.ServerWALEnd, err
	}
	return 0, nil
}
