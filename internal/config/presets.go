package config

const mediaJSON = "application/json"

// presets are sorted by name. testdata/presets holds the table of each, with the
// version that it was taken from, and docs/presets.md says what is lost.
var presets = []Preset{
	{
		Name: "axon", Title: "Axon Framework's event store by JPA",
		Outbox: Outbox{
			Table: "public.domain_event_entry",
			Columns: Columns{
				ID: "event_identifier", AggregateType: "type", AggregateID: "aggregate_identifier", Type: "payload_type",
				Payload: "payload", Time: "time_stamp",
			},
			Defaults:   Defaults{AggregateType: "axon"}, // type is NULL where an event belongs to no aggregate
			Extensions: map[string]string{"payloadrevision": "payload_revision"},
		},
		Marks: []string{"global_index", "sequence_number", "meta_data"},
	},
	{
		Name: "brighter", Title: "Paramore.Brighter's PostgreSQL outbox",
		Outbox: Outbox{
			Table: "public.outbox",
			Columns: Columns{
				ID: "messageid", AggregateType: "topic", AggregateID: "messageid", Type: "topic", Payload: "body",
				Time: "timestamp", DataContentType: "contenttype", CorrelationID: "correlationid",
			},
			Defaults: Defaults{AggregateType: "brighter", Type: "brighter.message", DataContentType: mediaJSON},
		},
		Marks:      []string{"messagetype", "headerbag", "dispatched"},
		Dispatcher: "Brighter's outbox sweeper, and ClearOutbox after each DepositPost", Status: []string{"dispatched"},
		TurnOff: "call DepositPost without ClearOutbox, and do not register UseOutboxSweeper",
	},
	{
		Name: "cap", Title: "DotNetCore.CAP",
		Outbox: Outbox{
			Table: "cap.published",
			Columns: Columns{
				ID: "Id", AggregateType: "Name", AggregateID: "Id", Type: "Name", Payload: "Content#/Value",
				CorrelationID: "Content#/Headers/cap-corr-id", TraceParent: "Content#/Headers/traceparent",
			},
		},
		Marks:      []string{"Retries", "Added", "ExpiresAt", "StatusName"},
		Dispatcher: "CAP's dispatcher, which sends each row at once and again when that fails", Status: []string{"StatusName", "Retries"},
		TurnOff: "CAP cannot store without sending: give it a transport that does nothing, such as an in-memory queue, " +
			"while the streamer publishes",
	},
	{
		Name: "debezium", Title: "Debezium's outbox event router",
		Outbox: Outbox{
			Table:   "public.outbox",
			Columns: Columns{ID: "id", AggregateType: "aggregatetype", AggregateID: "aggregateid", Type: "type", Payload: "payload"},
		},
	},
	{
		Name: "django", Title: "django-outbox-pattern",
		Outbox: Outbox{
			Table: "public.published",
			Columns: Columns{
				ID: "id", AggregateID: "id", Type: "destination", Payload: "body", Time: "added",
				CorrelationID: "headers#/dop-correlation-id",
			},
			Defaults: Defaults{AggregateType: "django"},
		},
		Marks:      []string{"expires_at", "retry", "status"},
		Dispatcher: "the management command publish", Status: []string{"status", "retry"},
		TurnOff: "do not run manage.py publish",
	},
	{
		Name: "event-store", Title: "a plain event store: one row an event, with its stream and metadata as JSON",
		Outbox: Outbox{
			Table: "public.events",
			Columns: Columns{
				ID: "id", AggregateID: "stream_id", Type: "type", Payload: "data", Time: "created_at",
				CorrelationID: "metadata#/correlation_id", CausationID: "metadata#/causation_id",
			},
			Defaults:   Defaults{AggregateType: "event-store"},
			Extensions: map[string]string{"streamversion": "version"},
		},
	},
	{
		Name: "eventuate-tram", Title: "Eventuate Tram",
		Outbox: Outbox{
			Table: "eventuate.message",
			Columns: Columns{
				ID: "id", AggregateType: "destination", AggregateID: "headers#/PARTITION_ID", Type: "headers#/event-type",
				Payload: "payload", Time: "creation_time",
			},
			Defaults: Defaults{AggregateID: "eventuate", Type: "eventuate.message", DataContentType: mediaJSON},
		},
		Marks:      []string{"headers", "published"},
		Dispatcher: "the Eventuate CDC service", Status: []string{"published"},
		TurnOff: "stop the Eventuate CDC service for this database",
	},
	{
		Name: "marten", Title: "Marten's event store",
		Outbox: Outbox{
			Table: "public.mt_events",
			Columns: Columns{
				ID: "id", AggregateID: "stream_id", Type: "type", Payload: "data", Time: "timestamp",
			},
			Defaults:   Defaults{AggregateType: "marten"},
			Extensions: map[string]string{"tenantid": "tenant_id", "streamversion": "version"},
		},
		Marks: []string{"seq_id", "mt_dotnet_type", "is_archived"},
	},
	{
		Name: "masstransit", Title: "MassTransit's Entity Framework outbox",
		Outbox: Outbox{
			Table: "public.OutboxMessage",
			Columns: Columns{
				ID: "MessageId", AggregateID: "ConversationId", Type: "Body#/messageType/0", Payload: "Body#/message", Time: "SentTime",
				CorrelationID: "CorrelationId", CausationID: "InitiatorId",
			},
			Defaults:   Defaults{AggregateType: "masstransit", AggregateID: "masstransit", Type: "masstransit.message"},
			Extensions: map[string]string{"destination": "DestinationAddress"},
		},
		Marks:      []string{"SequenceNumber", "OutboxId", "ContentType", "EnqueueTime"},
		Dispatcher: "MassTransit's bus outbox, which sends each row and deletes it", Deletes: true,
		TurnOff: "call DisableDeliveryService() in UseBusOutbox: rows are then written and not sent",
	},
	{
		Name: "message-db", Title: "Message DB (Eventide)",
		Outbox: Outbox{
			Table: "message_store.messages",
			Columns: Columns{
				ID: "id", AggregateID: "stream_name", Type: "type", Payload: "data", Time: "time",
				CorrelationID: "metadata#/correlationStreamName",
			},
			Defaults:   Defaults{AggregateType: "message-db"},
			Extensions: map[string]string{"streamversion": "position"},
		},
		Marks: []string{"global_position"},
	},
	{
		Name: "nservicebus", Title: "NServiceBus SQL persistence",
		Outbox: Outbox{
			Table:    "public.outboxdata",
			Columns:  Columns{ID: "MessageId", AggregateID: "MessageId", Payload: "Operations"},
			Defaults: Defaults{AggregateType: "nservicebus", Type: "nservicebus.operations"},
		},
		Marks:      []string{"Dispatched", "DispatchedAt", "PersistenceVersion"},
		Dispatcher: "NServiceBus, which sends the operations of each row", Status: []string{"Dispatched", "DispatchedAt"},
		TurnOff: "NServiceBus cannot store without sending: let the streamer publish only what no endpoint of NServiceBus consumes",
	},
	{
		Name: "pg-transactional-outbox", Title: "pg-transactional-outbox for Node.js",
		Outbox: Outbox{
			Table: "public.outbox",
			Columns: Columns{
				ID: "id", AggregateType: "aggregate_type", AggregateID: "aggregate_id", Type: "message_type", Payload: "payload",
				Time: "created_at",
			},
		},
		Marks:      []string{"concurrency", "locked_until", "processed_at", "finished_attempts"},
		Dispatcher: "pg-transactional-outbox's listener", Status: []string{"processed_at", "started_attempts", "locked_until"},
		TurnOff: "do not start initializePollingMessageListener or initializeReplicationMessageListener for the outbox",
	},
	{
		Name: "quarkus", Title: "Debezium's Quarkus outbox extension",
		Outbox: Outbox{
			Table: "public.outboxevent",
			Columns: Columns{
				ID: "id", AggregateType: "aggregatetype", AggregateID: "aggregateid", Type: "type", Payload: "payload", Time: "timestamp",
			},
			Defaults: Defaults{DataContentType: mediaJSON},
		},
	},
	{
		Name: "rails", Title: "sbmt-outbox for Rails",
		Outbox: Outbox{
			Table:    "public.outbox_items",
			Columns:  Columns{ID: "uuid", AggregateID: "event_key", Payload: "payload", Time: "created_at"},
			Defaults: Defaults{AggregateType: "rails", Type: "outbox.item"},
		},
		Marks:      []string{"bucket", "status", "errors_count"},
		Dispatcher: "the outbox daemon of sbmt-outbox", Status: []string{"status", "processed_at", "errors_count"},
		TurnOff: "do not start the outbox daemon for this table",
	},
	{
		Name: "rails-event-store", Title: "Rails Event Store",
		Outbox: Outbox{
			Table: "public.event_store_events",
			Columns: Columns{
				ID: "event_id", AggregateID: "event_id", Type: "event_type", Payload: "data", Time: "created_at",
				CorrelationID: "metadata#/correlation_id", CausationID: "metadata#/causation_id",
			},
			Defaults: Defaults{AggregateType: "rails-event-store", DataContentType: mediaJSON},
		},
		Marks: []string{"valid_at"},
	},
	{
		Name: "spring-modulith", Title: "Spring Modulith's event publication registry",
		Outbox: Outbox{
			Table: "public.event_publication",
			Columns: Columns{
				ID: "id", AggregateID: "id", Type: "event_type", Payload: "serialized_event", Time: "publication_date",
			},
			Defaults:   Defaults{AggregateType: "spring-modulith", DataContentType: mediaJSON},
			Extensions: map[string]string{"listenerid": "listener_id"},
		},
		Marks:      []string{"completion_date"},
		Dispatcher: "Spring Modulith, which calls the listener of each row", Status: []string{"completion_date", "status", "completion_attempts"},
		TurnOff: "use listeners for work inside the application, and no externalisation (spring.modulith.events.externalization.enabled=false)",
	},
	{
		Name: "watermill", Title: "Watermill's SQL publisher",
		Outbox: Outbox{
			Table: "public.watermill_events",
			Columns: Columns{
				ID: "uuid", AggregateID: "uuid", Type: "metadata#/name", Payload: "payload",
				CorrelationID: "metadata#/correlation_id",
			},
			Defaults: Defaults{AggregateType: "watermill", Type: "watermill.message", DataContentType: mediaJSON},
		},
		Marks: []string{"offset", "created_at", "transaction_id"},
	},
	{
		Name: "wolverine", Title: "Wolverine's durable outbox",
		Outbox: Outbox{
			Table:      "wolverine.wolverine_outgoing_envelopes",
			Columns:    Columns{ID: "id", AggregateID: "id", Type: "message_type", Payload: "body"},
			Defaults:   Defaults{AggregateType: "wolverine"},
			Extensions: map[string]string{"destination": "destination"},
		},
		Marks:      []string{"owner_id", "deliver_by", "attempts"},
		Dispatcher: "Wolverine's durability agent, which sends each row and deletes it", Status: []string{"owner_id", "attempts"}, Deletes: true,
		TurnOff: "Wolverine cannot store without sending: let the streamer publish only what Wolverine sends nowhere else",
	},
}
