// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/limit"
	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/store"
	"github.com/noctule/noctule/transport"
)

// metrics makes the page for Prometheus. The registry is the server's own: nothing is global.
func metrics(src Source) http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collector{src},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// A collector reads the counters when it is asked. Every series there can be is always there, at zero if need be, so that rates
// and alarms work from the first scrape on.
type collector struct{ src Source }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("noctule_"+name, help, labels, nil)
}

var (
	buildInfo = desc("build_info", "1, with the version as label.", "version")
	phaseDesc = desc("phase", "1 for the phase that the server is in.", "phase")

	connected     = desc("connections", "Clients connected.")
	maxConnected  = desc("connections_max", "Most clients that were connected at once since the start.")
	subscriptions = desc("subscriptions", "Subscriptions of connected clients.")
	shares        = desc("shared_subscriptions", "Shared subscriptions with connected members.")
	queued        = desc("queued_messages", "Messages that wait in memory for connected clients.")
	queuedBytes   = desc("queued_bytes", "Their bytes.")
	closedDesc    = desc("connections_ended_total", "Connections that ended, by cause.", "cause")
	refusedDesc   = desc("connections_refused_total", "Connections that the broker refused, by cause.", "cause")
	droppedDesc   = desc("messages_dropped_total", "Messages that were dropped, by cause; one for each receiver that missed it.", "cause")

	overloaded  = desc("overloaded", "1 while there is too much of it: new connections are refused.", "strain")
	overloads   = desc("overloads_total", "Times that there was.", "strain")
	memoryUsed  = desc("memory_used_bytes", "Memory used, as the governor has it.")
	memoryLimit = desc("memory_limit_bytes", "What may be used; 0 without a limit.")
	ruleHits    = desc("limit_hits_total", "What rules of limits did, by rule and action.", "rule", "action")
	ruleKeys    = desc("limit_keys", "Clients, users, addresses or listeners that a rule counts for now, or has not forgotten yet.", "rule")

	socketsOpen     = desc("sockets", "Open sockets, those before CONNECT included.")
	socketsAccepted = desc("sockets_accepted_total", "Sockets accepted.")
	socketsRefused  = desc("sockets_refused_total", "Sockets that were refused before MQTT began, by cause.", "cause")
	wireReceived    = desc("socket_received_bytes_total", "Bytes read from sockets, after TLS.")
	wireSent        = desc("socket_sent_bytes_total", "Bytes written to sockets, before TLS.")

	unsent        = desc("socket_unsent_bytes", "Bytes in out-queues that sockets do not take: of clients that do not read.")
	blockedWrites = desc("sockets_blocked", "Connections whose socket is full.")

	paused     = desc("connections_paused", "Connections that are not read, by reason.", "reason")
	handed     = desc("handover_bytes", "Bytes of messages on their way from one loop to another.")
	handedMost = desc("handover_loop_bytes", "The same, of the loop with the most; publishers are paused above limits.max_handover.")

	blocksUsed   = desc("payload_blocks_used_bytes", "Memory of blocks that hold large payloads for their receivers.")
	blocksPooled = desc("payload_blocks_pooled_bytes", "Memory of blocks that waits to be used again.")
	blocksTaken  = desc("payload_blocks_taken_total", "Blocks used.")
	blocksMade   = desc("payload_blocks_made_total", "Blocks used for which there was none in the pool.")

	sessions       = desc("store_sessions", "Persistent sessions.")
	attached       = desc("store_sessions_attached", "Persistent sessions whose client is connected.")
	storeSubs      = desc("store_subscriptions", "Subscriptions of persistent sessions.")
	storeMessages  = desc("store_messages", "Stored messages.")
	storeBytes     = desc("store_bytes", "Their bytes.")
	retained       = desc("retained_messages", "Retained messages.")
	retainedBytes  = desc("retained_bytes", "Their bytes.")
	storeKept      = desc("store_kept_messages_total", "Messages that the store took, by class of durability.", "durability")
	storeDropped   = desc("store_dropped_total", "Stored messages dropped by a limit of a queue.")
	storeExpired   = desc("store_expired_total", "Stored messages that expired.")
	storeCommits   = desc("store_commits_total", "Commits.")
	storePending   = desc("store_pending_commands", "Commands proposed and not committed.")
	storePendBytes = desc("store_pending_bytes", "Their bytes.")

	diskFull   = desc("store_disk_full", "1 while the disk has no room: messages that must be kept are refused or held.")
	diskSlow   = desc("store_disk_slow", "1 while a commit has not ended for a second.")
	diskFailed = desc("store_disk_failed", "1 once the disk failed to keep what was written: nothing is acknowledged any more.")
	damaged    = desc("store_damaged_total", "Damaged parts of the data directory that were set aside since the start.")
	tornTails  = desc("store_torn_tails_total", "Ends of the log that a power cut had torn off, cut at the start.")
	fullTimes  = desc("store_disk_full_total", "Times that the disk was full.")
	slowTimes  = desc("store_disk_slow_total", "Times that the disk was slow.")

	storeDrops     = desc("store_drops_total", "Messages that readers of stored queues did not get, by cause.", "cause")
	storeHeld      = desc("store_held_messages", "Messages that wait for room in a queue, with store.queue_policy block.")
	storeHeldBytes = desc("store_held_bytes", "Their bytes.")

	commitSeconds     = desc("store_commit_seconds", "Time of commits to the log, write and fdatasync.")
	logRecords        = desc("store_log_records_total", "Commands written to the log; by store_commit_seconds_count, the size of a commit.")
	logWritten        = desc("store_log_written_bytes_total", "Bytes written to the log.")
	logBytes          = desc("store_log_bytes", "Bytes of the log on disk.")
	logSyncs          = desc("store_log_syncs_total", "Calls of fdatasync.")
	stateBytes        = desc("store_state_bytes", "Bytes of the state on disk.")
	bufferBytes       = desc("store_buffer_bytes", "Changes in memory that are in the log, and not yet in the state; about.")
	checkpoints       = desc("store_checkpoints_total", "Times that changes were written to the state.")
	checkpointSeconds = desc("store_checkpoint_seconds_total", "Time that this took.")

	loopIterations = desc("loop_iterations_total", "Iterations of a loop.", "loop")
	loopTasks      = desc("loop_tasks_total", "Tasks run by a loop, timers included.", "loop")
	loopTimers     = desc("loop_timers", "Timers that are set.", "loop")
	loopPanics     = desc("loop_panics_total", "Contained panics.", "loop")
	loopMailbox    = desc("loop_mailbox_tasks", "Tasks that wait.", "loop")
	loopMailboxMax = desc("loop_mailbox_tasks_max", "Most tasks that ever waited.", "loop")
	loopLag        = desc("loop_lag_seconds", "Longest recent iteration; halves every ten seconds.", "loop")
	loopSeconds    = desc("loop_iteration_seconds", "Time of iterations: while one lasts, nobody else of the loop is served.", "loop")
	loopHandovers  = desc("loop_handovers_total", "Tasks handed over to a loop by others, through its mailbox.", "loop")
	loopHelped     = desc("loop_helped_total", "Times that a loop slept and another one did its work for it.", "loop")
	loopWakeups    = desc("loop_wakeups_total", "Times that a loop slept and had to be woken for a task.", "loop")
	loopStalls     = desc("loop_stalls_total", "Times that a loop was blocked for longer than alarms.loop_blocked.", "loop")
	loopStalled    = desc("loop_stalled", "1 while a loop is blocked.", "loop")
	asyncWaiting   = desc("async_jobs_waiting", "Jobs, such as logins, that wait for a worker.")
	loopDropped    = desc("loop_dropped_tasks_total", "Tasks dropped because they came after the end.")
)

// counterDescs are the broker's counters by its own names.
var counterDescs = func() map[broker.Counter]*prometheus.Desc {
	help := map[broker.Counter]string{
		broker.BytesReceived: "Bytes of MQTT packets received.", broker.BytesSent: "Bytes of MQTT packets sent.",
		broker.PacketsReceived: "MQTT packets received.", broker.PacketsSent: "MQTT packets sent.",
		broker.PublishReceived: "PUBLISH packets received.", broker.PublishSent: "PUBLISH packets sent.",
		broker.PublishBytesReceived: "Bytes of PUBLISH packets received.", broker.PublishBytesSent: "Bytes of PUBLISH packets sent.",
		broker.ConnectsGranted: "Connections that were granted.", broker.SocketsOpened: "Connections handed to the broker.",
		broker.SocketsClosed: "Connections that the broker is done with.", broker.ConnectionsClosed: "Granted connections that ended.",
		broker.SessionsExpired: "Sessions that expired.", broker.WillsFired: "Wills that were published.",
		broker.EventsDropped: "Events that an observer was too slow for.", broker.PluginPanics: "Contained panics of plug-ins.",
		broker.ReadsPaused: "Times that reading from a client was paused.", broker.StoreReads: "Reads of stored queues.",
		broker.OverloadPauses: "Times that one of the noisiest clients was not read for a while during an overload.",
	}
	out := map[broker.Counter]*prometheus.Desc{}
	for _, c := range broker.Counters() {
		h := help[c]
		if h == "" {
			h = "Counted by the broker."
		}
		out[c] = desc(c.String()+"_total", h)
	}
	return out
}()

// Describe implements prometheus.Collector. It describes nothing: the registry then takes whatever Collect brings.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	gauge(out, buildInfo, 1, c.src.Version)
	for p := Starting; p <= Stopped; p++ {
		v := 0.0
		if p == c.src.Phase() {
			v = 1
		}
		gauge(out, phaseDesc, v, p.String())
	}
	b := c.src.Broker
	collectBroker(out, b.Stats())
	collectTransport(out, c.src.Transport.Counts())
	collectStore(out, b.Store())
	collectLoops(out, b.Loops())
}

func gauge(out chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func counter(out chan<- prometheus.Metric, d *prometheus.Desc, v int64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

func collectBroker(out chan<- prometheus.Metric, s broker.Stats) {
	gauge(out, connected, float64(s.Connected))
	gauge(out, maxConnected, float64(s.MaxConnected))
	gauge(out, subscriptions, float64(s.Subscriptions))
	gauge(out, shares, float64(s.SharedGroups))
	gauge(out, queued, float64(s.Queued))
	gauge(out, queuedBytes, float64(s.QueuedBytes))
	for i, reason := range broker.PauseReasons {
		gauge(out, paused, float64(s.Paused[i]), reason)
	}
	gauge(out, handed, float64(s.HandedBytes))
	gauge(out, handedMost, float64(s.HandedBytesMost))
	for class, n := range s.Kept {
		counter(out, storeKept, n, store.Durability(class).String())
	}
	collectNotices(out, &s)
	for c, d := range counterDescs {
		counter(out, d, s.Counts[c])
	}
	for _, strain := range broker.Strains() {
		v := 0.0
		if s.Overloaded[strain] {
			v = 1
		}
		gauge(out, overloaded, v, strain.String())
		counter(out, overloads, s.Overloads[strain], strain.String())
	}
	gauge(out, memoryUsed, float64(s.MemoryUsed))
	gauge(out, memoryLimit, float64(s.MemoryLimit))
	for _, r := range s.Rules {
		for k, n := range r.Hits {
			counter(out, ruleHits, n, r.Rule, limit.Kind(k).String())
		}
		gauge(out, ruleKeys, float64(r.Accounts), r.Rule)
	}
	for _, cause := range plugin.Causes() {
		counter(out, closedDesc, s.Closed[cause], cause.String())
		counter(out, refusedDesc, s.Refused[cause], cause.String())
		counter(out, droppedDesc, s.Dropped[cause], cause.String())
	}
}

func collectNotices(out chan<- prometheus.Metric, s *broker.Stats) {
	n := &s.Notices
	for d, on := range map[*prometheus.Desc]bool{diskFull: s.DiskFull, diskSlow: s.DiskSlow, diskFailed: s.DiskFailed} {
		v := 0.0
		if on {
			v = 1
		}
		gauge(out, d, v)
	}
	counter(out, damaged, n[store.Damaged])
	counter(out, tornTails, n[store.TornTail])
	counter(out, fullTimes, n[store.DiskFull])
	counter(out, slowTimes, n[store.SlowDisk])
}

func collectTransport(out chan<- prometheus.Metric, c transport.Counts) {
	gauge(out, socketsOpen, float64(c.Open))
	counter(out, socketsAccepted, c.Accepted)
	counter(out, wireReceived, c.BytesRead)
	counter(out, wireSent, c.BytesWritten)
	blocks := transport.Blocks()
	gauge(out, blocksUsed, float64(blocks.InUse))
	gauge(out, blocksPooled, float64(blocks.Pooled))
	counter(out, blocksTaken, blocks.Taken)
	counter(out, blocksMade, blocks.Made)
	gauge(out, unsent, float64(c.Unsent))
	gauge(out, blockedWrites, float64(c.Blocked))
	for _, cause := range transport.Causes {
		counter(out, socketsRefused, c.Refused[cause], cause)
	}
}

func collectStore(out chan<- prometheus.Metric, st store.Store) {
	s := st.Stats()
	gauge(out, sessions, float64(s.Sessions))
	gauge(out, attached, float64(s.Attached))
	gauge(out, storeSubs, float64(s.Subscriptions))
	gauge(out, storeMessages, float64(s.Messages))
	gauge(out, storeBytes, float64(s.MessageBytes))
	gauge(out, retained, float64(s.Retained))
	gauge(out, retainedBytes, float64(s.RetainedBytes))
	counter(out, storeDropped, s.Dropped)
	counter(out, storeExpired, s.Expired)
	counter(out, storeCommits, s.Commits)
	for cause, n := range s.Drops {
		counter(out, storeDrops, n, strings.ReplaceAll(store.DropCause(cause).String(), "-", "_"))
	}
	gauge(out, storeHeld, float64(s.Held))
	gauge(out, storeHeldBytes, float64(s.HeldBytes))
	disk := s.Disk
	if disk == nil { // in memory
		disk = new(store.DiskStats)
	}
	collectDisk(out, disk)
	commands, bytes := st.Pending()
	gauge(out, storePending, float64(commands))
	gauge(out, storePendBytes, float64(bytes))
}

func collectDisk(out chan<- prometheus.Metric, s *store.DiskStats) {
	buckets, n := map[float64]uint64{}, uint64(0)
	for i, commits := range s.Commits {
		n += uint64(commits)
		if i < len(s.Commits)-1 { // the last one has no bound
			buckets[store.CommitBound(i)] = n
		}
	}
	out <- prometheus.MustNewConstHistogram(commitSeconds, n, s.CommitSeconds, buckets)
	counter(out, logRecords, s.Records)
	counter(out, logWritten, s.LogWritten)
	gauge(out, logBytes, float64(s.LogBytes))
	counter(out, logSyncs, s.Syncs)
	gauge(out, stateBytes, float64(s.StateBytes))
	gauge(out, bufferBytes, float64(s.BufferBytes))
	counter(out, checkpoints, s.Checkpoints)
	out <- prometheus.MustNewConstMetric(checkpointSeconds, prometheus.CounterValue, s.CheckpointTime.Seconds())
}

func collectLoops(out chan<- prometheus.Metric, g *loop.Group) {
	for i := range g.N() {
		s, name := g.Loop(i).Stats(), strconv.Itoa(i)
		counter(out, loopIterations, s.Iterations, name)
		counter(out, loopTasks, s.Tasks, name)
		gauge(out, loopTimers, float64(s.Timers), name)
		counter(out, loopPanics, s.Panics, name)
		gauge(out, loopMailbox, float64(s.Mailbox), name)
		gauge(out, loopMailboxMax, float64(s.MailboxHigh), name)
		gauge(out, loopLag, s.Lag.Seconds(), name)
		counter(out, loopHandovers, s.Posted, name)
		counter(out, loopWakeups, s.Wakeups, name)
		counter(out, loopHelped, s.Helped, name)
		counter(out, loopStalls, s.Stalls, name)
		stalled := 0.0
		if s.Stalled {
			stalled = 1
		}
		gauge(out, loopStalled, stalled, name)
		buckets, n := map[float64]uint64{}, uint64(0)
		for i, bound := range loop.IterationBounds {
			n += uint64(s.Turns[i])
			buckets[bound.Seconds()] = n
		}
		out <- prometheus.MustNewConstHistogram(loopSeconds, uint64(s.Iterations), s.Busy.Seconds(), buckets, name)
	}
	gauge(out, asyncWaiting, float64(g.AsyncWaiting()))
	counter(out, loopDropped, g.Dropped())
}
