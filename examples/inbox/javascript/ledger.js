// A ledger that books each CloudEvent once, in order, whatever crashes. See README.md.
import { setTimeout as sleep } from 'node:timers/promises'
import { Kafka as CloudEventsKafka } from 'cloudevents'
import kafkajs from 'kafkajs'
import { decompressFrame } from 'lz4-napi'
import pg from 'pg'

const ATTEMPTS = Number(process.env.ATTEMPTS || 10) // of an event, before the program gives up

// lz4 is the streamer's default compression, and kafkajs leaves codecs to others.
kafkajs.CompressionCodecs[kafkajs.CompressionTypes.LZ4] = () => ({
  compress: () => { throw new Error('this program only reads') },
  decompress: (buffer) => decompressFrame(buffer)
})

// What this service does with an event. It is your part: all of it in this transaction.
async function handle (client, event) {
  const { account, amount } = event.data
  await client.query(`insert into account (name, balance) values ($1, $2)
    on conflict (name) do update set balance = account.balance + excluded.balance`, [account, amount])
  await client.query('insert into entry (account, amount, source, event) values ($1, $2, $3, $4)',
    [account, amount, event.source, event.id])
}

// Nothing can be handled before somebody has done what the remedy says.
class Stop extends Error {
  constructor (problem, remedy) { super(`${problem}\nfix: ${remedy}`) }
}

const TAKE = `select transaction, parked, fresh[1] from inbox.take($1::integer, $2::text, array[$3]::integer[], $4::bytea,
  array[$5]::text[], array[$6]::text[], array[null]::text[], array[null]::text[], true)`

// Handles each event in one transaction with the note that it is handled.
class Inbox {
  constructor (dsn, group) { Object.assign(this, { dsn, group, client: null }) }

  async connect () {
    if (this.client) return
    const client = new pg.Client({ connectionString: this.dsn, connectionTimeoutMillis: 10_000 })
    const lost = () => { if (this.client === client) this.client = null }
    client.on('error', lost).on('end', lost)
    try {
      await client.connect()
      const { rows } = await client.query('select inbox.register($1, $2) as number', [this.group, this.group])
      this.number = rows[0].number
    } catch (error) {
      client.end().catch(() => {})
      refuseSetup(error)
      throw Object.assign(error, { outage: true })
    }
    this.client = client
  }

  // Handles an event, and reports whether that had not been done before.
  async once (record, event) {
    await this.connect()
    const client = this.client
    try {
      await client.query('begin isolation level read committed')
      const { rows: [taken] } = await client.query(TAKE,
        [this.number, record.topic, record.partition, record.message.key, event.source, event.id])
      if (taken.parked) throw new Stop(`the key of ${place(record)} is parked`, 'release it with the program that has parked it')
      if (taken.fresh) {
        await handle(client, event)
        await client.query('select inbox.seal($1)', [taken.transaction])
      }
      await client.query('commit')
      return taken.fresh
    } catch (error) {
      if (this.client !== client) throw Object.assign(error, { outage: true })
      await client.query('rollback').catch(() => {})
      throw error
    }
  }

  // Handles an event in place, however often that takes: the next one has to wait for it.
  async inTheEnd (record, heartbeat) {
    const event = decode(record)
    for (let failures = 0, pauses = 1; ; pauses++) {
      try {
        const fresh = await this.once(record, event)
        return console.log(fresh ? 'handled' : 'repeat', place(record), event.id)
      } catch (error) {
        if (error instanceof Stop) throw error
        refuseSetup(error)
        if (!isOutage(error) && ++failures === ATTEMPTS) {
          throw new Stop(`${place(record)}, event ${event.id}: cannot be handled: ${error.message}`,
            'correct the handler or the data and start again: nothing after this event has been handled')
        }
        const pause = (0.5 + Math.random() / 2) * Math.min(5_000, 100 * 2 ** pauses) // short enough for heartbeats
        console.error(`${place(record)}: ${error.message}; again in ${Math.round(pause)} ms`)
        await sleep(pause)
        await heartbeat()
      }
    }
  }
}

// Returns the CloudEvent in a record, whatever its mode.
function decode (record) {
  const { value, headers } = record.message
  try {
    const texts = Object.fromEntries(Object.entries(headers ?? {}).map(([name, text]) => [name, String(text)]))
    if (!['1.0', '0.3', undefined].includes(texts.ce_specversion)) {
      throw new Error(`specversion '${texts.ce_specversion}' is not known here`)
    }
    const event = CloudEventsKafka.toEvent({ headers: texts, value: value ?? Buffer.alloc(0) })
    event.validate()
    return event
  } catch (error) {
    throw new Stop(`${place(record)} is no CloudEvent: ${error.message}`, 'correct its producer; to pass over the record,' +
      ` stop the group and set its offset to ${BigInt(record.message.offset) + 1n} (kafka-consumer-groups --reset-offsets)`)
  }
}

// Stops where trying again is of no use.
function refuseSetup (error) {
  if (['3F000', '42883'].includes(error.code) || (error.code === '42P01' && error.message.includes('inbox.'))) {
    throw new Stop(`the inbox is missing: ${error.message}`, 'run consume/schema.sql in this database: psql -f schema.sql')
  }
  if (error.code?.startsWith('ZI')) throw new Stop(error.message, error.hint)
}

// The database is away, or two transactions met: not the event's fault.
function isOutage (error) {
  return error.outage || /^(08|40|53|57|58)/.test(error.code)
}

function place ({ topic, partition, message }) {
  return `${topic}-${partition}@${message.offset}`
}

function setting (name, remedy) {
  const value = (process.env[name] ?? '').trim()
  if (!value) throw new Stop(`${name} is empty`, remedy)
  return value
}

async function run () {
  const group = setting('GROUP', "set it to the group id, which is also this consumer's name in the inbox")
  const topics = setting('TOPICS', 'set it to the topics, separated by commas').split(',')
  const brokers = setting('BROKERS', 'set it to the addresses of Kafka, such as kafka-1:9092,kafka-2:9092').split(',')
  const inbox = new Inbox(setting('DSN', 'set it to the database, such as postgres://ledger@db/ledger'), group)
  await inbox.connect().catch((error) => {
    throw error instanceof Stop ? error : new Stop(`cannot begin: ${error.message || error.code}`, 'check DSN, and whether PostgreSQL is up')
  })
  const kafka = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.ERROR, retry: { retries: 100, maxRetryTime: 5000 } })
  const sessionTimeout = Number(process.env.SESSION_TIMEOUT_MS || 10_000)
  const consumer = kafka.consumer({
    groupId: group,
    sessionTimeout,
    rebalanceTimeout: sessionTimeout,
    heartbeatInterval: sessionTimeout / 4,
    maxWaitTimeInMs: sessionTimeout / 4 // kafkajs sends no heartbeat while it waits for records
  })
  const stopped = new Promise((resolve, reject) => {
    for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, resolve)
    consumer.on(consumer.events.CRASH, ({ payload }) => payload.restart || reject(payload.error))
    start(consumer, topics, inbox, reject).catch(reject)
  })
  await stopped.finally(() => consumer.disconnect())
}

async function start (consumer, topics, inbox, fail) {
  await consumer.connect()
  await consumer.subscribe({ topics, fromBeginning: true }) // also partitions that a topic gets later
  await consumer.run({
    autoCommit: false,
    eachBatch: async ({ batch: { topic, partition, messages }, resolveOffset, heartbeat, isRunning, isStale }) => {
      for (const message of messages) {
        if (!isRunning() || isStale()) return
        try {
          await inbox.inTheEnd({ topic, partition, message }, heartbeat)
        } catch (error) {
          if (!(error instanceof Stop)) throw error // kafkajs joins the group again
          consumer.pause(topics.map((topic) => ({ topic })))
          return fail(error)
        }
        resolveOffset(message.offset)
        await commit(consumer, { topic, partition, offset: String(BigInt(message.offset) + 1n) })
        await heartbeat()
      }
    }
  })
}

// Tells Kafka how far it is. If that fails, what follows comes again, and the inbox knows it.
async function commit (consumer, next) {
  await consumer.commitOffsets([next]).catch((error) => console.error(`Kafka: commit: ${error.message}`))
}

run().then(() => process.exit(0), (error) => {
  console.error(error instanceof Stop ? error.message : error)
  process.exit(1)
})
