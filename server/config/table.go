// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"slices"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/store"
)

const (
	second = int64(time.Second)
	kib    = int64(1 << 10)
	mib    = int64(1 << 20)
)

// tree holds every option, in the order in which they are shown.
var tree = &table{
	options: slices.Concat(baseOptions, limitOptions, memoryOptions, policyOptions, storeOptions, endOptions),
	groups: map[string]string{
		"admin":    "HTTP server for health, metrics, profiles and a status page.",
		"log":      "What is logged to standard error.",
		"auth":     "Who may come in. Users and rights come from plug-ins.",
		"limits":   "What one client, or all together, may use.",
		"memory":   "How much memory the whole process may use.",
		"policy":   "What the broker does where the MQTT standard leaves a choice.",
		"store":    "What sessions and retained messages may keep.",
		"alarms":   "When alarms are raised.",
		"shutdown": "How the server ends.",
	},
}

var baseOptions = []option{
	{
		name: "listeners", kind: sections, reload: AtRestart, of: listenerTable,
		doc:   "The addresses that accept clients.",
		field: in(func(c *Config) any { return &c.Listeners }),
	},
	{
		name: "transport", kind: word, reload: AtRestart, words: []string{TransportAuto, TransportEpoll, TransportStd},
		doc:   "How connections are served: by the broker's own threads in epoll (Linux only), or std, by the runtime of Go, which needs more memory for each. Auto means epoll where there is one.",
		field: in(func(c *Config) any { return &c.Transport }),
	},
	{
		name: "data", kind: text, reload: AtRestart, words: []string{"/var/lib/noctule"},
		doc:   "The directory for what survives a restart; it is made, for the broker's user only. If empty: systemd's $STATE_DIRECTORY, else noctule in the user's data directory ($XDG_DATA_HOME or ~/.local/share; ~/Library/Application Support on macOS, %LocalAppData% on Windows).",
		field: in(func(c *Config) any { return &c.Data }),
	},
	{
		name: "admin.address", kind: text, reload: AtRestart, check: checkAdmin, words: []string{"off", "127.0.0.1:18083"},
		doc:   "Where the admin server listens: a host and a port, or off.",
		field: in(func(c *Config) any { return &c.Admin.Address }),
	},
	{
		name: "admin.expose", kind: toggle, reload: AtRestart,
		doc:   "Allows an admin address that is not loopback. The admin server has no login: whoever reaches it can read metrics. Profiles and the list of dropped messages stay on loopback.",
		field: in(func(c *Config) any { return &c.Admin.Expose }),
	},
	{
		name: "admin.hosts", kind: texts, reload: AtRestart, check: checkHost, words: []string{"noctule.example.org"},
		doc:   "Names by which browsers may call the admin server, besides localhost and IP addresses. Others are refused, against DNS rebinding.",
		field: in(func(c *Config) any { return &c.Admin.Hosts }),
	},
	{
		name: "log.level", kind: word, reload: Live, words: []string{"debug", "info", "warn", "error"},
		doc:   "The least level that is logged. Connections are logged at debug.",
		field: in(func(c *Config) any { return &c.Log.Level }),
	},
	{
		name: "log.format", kind: word, reload: AtRestart, words: []string{"text", "json"},
		doc:   "Text (in colour on a terminal) or JSON, a line for each event.",
		field: in(func(c *Config) any { return &c.Log.Format }),
	},
	{
		name: "auth.anonymous", kind: word, reload: Live, words: []string{"loopback", "everywhere", "nowhere"},
		doc:   "Where clients come in that no plug-in vouches for: from this host while there is no authentication (loopback), everywhere, or nowhere.",
		field: in(func(c *Config) any { return &c.Policy.AllowAnonymous }),
	},
	{
		name: "auth.timeout", kind: span, reload: AtRestart, min: int64(10 * time.Millisecond), max: 300 * second,
		doc:   "How long a plug-in may take to decide about a client. Longer counts as no.",
		field: in(func(c *Config) any { return &c.Auth.HookTimeout }),
	},
	{
		name: "auth.free_attempts", kind: count, reload: Live, max: 1_000_000,
		doc:   "Logins of one user, from all addresses or from one, that may fail in a row before the next one has to wait; an address has ten times as many. Who has logged in from an address before is judged by its own failures there alone. 0 turns waiting off.",
		field: in(func(c *Config) any { return &c.Policy.LoginAttempts.Free }),
	},
	{
		name: "auth.attempt_delay", kind: span, reload: Live, min: int64(time.Millisecond), max: 3600 * second,
		doc:   "The first wait; it doubles with each failure. Logins during it are refused without asking anybody.",
		field: in(func(c *Config) any { return &c.Policy.LoginAttempts.Delay }),
	},
	{
		name: "auth.max_attempt_delay", kind: span, reload: Live, min: int64(time.Millisecond), max: 24 * 3600 * second,
		doc:   "The longest wait.",
		field: in(func(c *Config) any { return &c.Policy.LoginAttempts.Most }),
	},
	{
		name: "auth.flapping_connects", kind: count, reload: Live, max: 1_000_000,
		doc:   "Granted connects of one client identifier within auth.flapping_window; one more bans it for auth.flapping_ban. 0 bans nobody.",
		field: in(func(c *Config) any { return &c.Policy.Flapping.Connects }),
	},
	{
		name: "auth.flapping_window", kind: span, reload: Live, min: second, max: 24 * 3600 * second,
		doc:   "The time within which connects are counted.",
		field: in(func(c *Config) any { return &c.Policy.Flapping.Window }),
	},
	{
		name: "auth.flapping_ban", kind: span, reload: Live, min: second, max: 365 * 24 * 3600 * second,
		doc:   "How long a client that connects too often is banned.",
		field: in(func(c *Config) any { return &c.Policy.Flapping.For }),
	},
	{
		name: "plugins", kind: plugins, reload: AtRestart,
		doc:   "Plug-ins in the order in which they are asked: a name, and the options of that plug-in. On a reload they read their files again.",
		field: in(func(c *Config) any { return &c.Plugins }),
	},
}

var limitOptions = []option{
	{
		name: "limits.connect_timeout", kind: span, reload: AtRestart, min: second / 10, max: 600 * second,
		doc:   "From accepting a connection to a granted CONNECT, TLS and WebSocket included.",
		field: in(func(c *Config) any { return &c.Limits.ConnectTimeout }),
	},
	{
		name: "limits.max_connect_packet", kind: size, reload: AtNextConnection, min: 64, max: 256 * mib,
		doc:   "The largest packet before CONNECT is granted. A will has to fit.",
		field: in(func(c *Config) any { return &c.Limits.MaxConnectPacket }),
	},
	{
		name: "limits.max_packet", kind: size, reload: AtNextConnection, min: 128, max: 256*mib + 4,
		doc:   "The largest packet, told to MQTT 5.0 clients as Maximum Packet Size.",
		field: in(func(c *Config) any { return &c.Limits.MaxPacket }),
	},
	{
		name: "limits.max_client_id", kind: size, reload: AtNextConnection, min: 23, max: 65535,
		doc:   "The longest client identifier.",
		field: in(func(c *Config) any { return &c.Limits.MaxClientID }),
	},
	{
		name: "limits.max_topic_levels", kind: count, reload: AtNextConnection, min: 1, max: 65535,
		doc:   "The most levels of a topic name or filter.",
		field: in(func(c *Config) any { return &c.Limits.MaxTopicLevels }),
	},
	{
		name: "limits.max_topic_length", kind: size, reload: AtNextConnection, min: 1, max: 65535,
		doc:   "The longest topic name or filter.",
		field: in(func(c *Config) any { return &c.Limits.MaxTopicLength }),
	},
	{
		name: "limits.max_user_properties", kind: count, reload: AtNextConnection, max: 1_000_000,
		doc:   "The most user properties of one packet.",
		field: in(func(c *Config) any { return &c.Limits.MaxUserProperties }),
	},
	{
		name: "limits.max_subscriptions", kind: count, reload: AtNextConnection, min: 1, max: 100_000_000,
		doc:   "The most subscriptions of one session.",
		field: in(func(c *Config) any { return &c.Limits.MaxSubscriptions }),
	},
	{
		name: "limits.max_keep_alive", kind: span, reload: AtNextConnection, max: 65535 * second,
		doc:   "The longest keep alive; MQTT 5.0 clients that ask for more are told so as Server Keep Alive. 0 means no bound.",
		field: in(func(c *Config) any { return &c.Limits.MaxKeepAlive }),
	},
	{
		name: "limits.max_session_expiry", kind: span, reload: AtNextConnection, max: 0xFFFFFFFE * second,
		doc:   "The longest session expiry. Sessions of MQTT 3.1 and 3.1.1 clients without clean session end after it too. 0 means no bound.",
		field: in(func(c *Config) any { return &c.Limits.MaxSessionExpiry }),
	},
	{
		name: "limits.max_qos", kind: count, reload: AtNextConnection, max: 2,
		doc:   "The highest QoS.",
		field: in(func(c *Config) any { return &c.Limits.MaxQoS }),
	},
	{
		name: "limits.receive_maximum", kind: count, reload: AtNextConnection, min: 1,
		doc:   "QoS 1 and 2 messages in flight from one client.",
		field: in(func(c *Config) any { return &c.Limits.ReceiveMaximum }),
	},
	{
		name: "limits.max_inflight", kind: count, reload: AtNextConnection, min: 1,
		doc:   "QoS 1 and 2 messages in flight to one client, whatever it offers to take.",
		field: in(func(c *Config) any { return &c.Limits.MaxInflight }),
	},
	{
		name: "limits.topic_alias_maximum", kind: count, reload: AtNextConnection,
		doc:   "Topic aliases of one connection, each way. 0 turns them off.",
		field: in(func(c *Config) any { return &c.Limits.TopicAliasMaximum }),
	},
	{
		name: "limits.max_queue_messages", kind: count, reload: Live, min: 1,
		doc:   "Messages that wait in memory for one connected client; the oldest are dropped beyond it.",
		field: in(func(c *Config) any { return &c.Limits.MaxQueueMessages }),
	},
	{
		name: "limits.max_queue_bytes", kind: size, reload: Live, min: kib,
		doc:   "Likewise, in bytes.",
		field: in(func(c *Config) any { return &c.Limits.MaxQueueBytes }),
	},
	{
		name: "limits.max_total_queue_bytes", kind: size, reload: Live, min: mib,
		doc:   "Bytes that wait in memory for all connected clients together. From half of it on, each may have an eighth of max_queue_bytes.",
		field: in(func(c *Config) any { return &c.Limits.MaxTotalQueueBytes }),
	},
	{
		name: "limits.max_connections", kind: count, reload: AtNextConnection,
		doc:   "Clients connected at once. 0 means no bound.",
		field: in(func(c *Config) any { return &c.Limits.MaxConnections }),
	},
	{
		name: "limits.max_connections_per_address", kind: count, reload: AtRestart,
		doc:   "Connections of one remote address (of IPv6: one /64) on one listener. 0 means no bound.",
		field: in(func(c *Config) any { return &c.Limits.MaxConnectionsPerAddress }),
	},
	{
		name: "limits.max_out_bytes", kind: size, reload: AtNextConnection, min: 4 * kib, max: 1 << 40,
		doc:   "Bytes under way to one client that does not read. From half of it on messages wait in the queue.",
		field: in(func(c *Config) any { return &c.Limits.MaxOutBytes }),
	},
	{
		name: "limits.max_handover", kind: size, reload: AtNextConnection, min: 64 * kib, max: 1 << 40,
		doc:   "Bytes under way between two threads of the broker before publishers are paused.",
		field: in(func(c *Config) any { return &c.Limits.MaxHandover }),
	},
	{
		name: "limits.max_pending_retained", kind: count, reload: AtNextConnection, min: 1, max: 1_000_000,
		doc:   "Retained messages read ahead for one new subscription.",
		field: in(func(c *Config) any { return &c.Limits.MaxPendingRetained }),
	},
	{
		name: "limits.max_shared_queue", kind: count, reload: Live, min: 1,
		doc:   "Messages that wait in a shared subscription none of whose members has a persistent session.",
		field: in(func(c *Config) any { return &c.Limits.MaxSharedQueue }),
	},
	{
		name: "limits.retain_available", kind: toggle, reload: AtNextConnection,
		doc:   "Whether there are retained messages.",
		field: in(func(c *Config) any { return &c.Limits.RetainAvailable }),
	},
	{
		name: "limits.wildcard_available", kind: toggle, reload: AtNextConnection,
		doc:   "Whether filters may have wildcards.",
		field: in(func(c *Config) any { return &c.Limits.WildcardAvailable }),
	},
	{
		name: "limits.shared_available", kind: toggle, reload: AtNextConnection,
		doc:   "Whether there are shared subscriptions.",
		field: in(func(c *Config) any { return &c.Limits.SharedAvailable }),
	},
	{
		name: "limits.identifier_available", kind: toggle, reload: AtNextConnection,
		doc:   "Whether there are subscription identifiers.",
		field: in(func(c *Config) any { return &c.Limits.IdentifierAvailable }),
	},
	{
		name: "limits.max_loop_lag", kind: span, reload: Live, max: 3600 * second,
		doc:   "How long work may wait for a thread of the broker before it counts as overloaded: new connections are refused with 0x89 (3.x: code 3), and the clients that send most are read less. 0 means never.",
		field: in(func(c *Config) any { return &c.Limits.MaxLoopLag }),
	},
	{
		name: "limits.max_commit_delay", kind: span, reload: Live, max: 3600 * second,
		doc:   "How long a commit may take before connections with a persistent session are refused likewise; the rest goes on. 0 means never.",
		field: in(func(c *Config) any { return &c.Limits.MaxCommitDelay }),
	},
	{
		name: "limits.rules", kind: sections, reload: Live, of: ruleTable,
		doc:   "Limits for some clients, or for some of them together; see limits.md. What limits has for all clients holds besides.",
		field: in(func(c *Config) any { return &c.Limits.Rules }),
	},
}

var memoryOptions = []option{
	{
		name: "memory.limit", kind: text, reload: Live, check: checkMemory, words: []string{"auto", "off", "2GiB", "50%"},
		doc:   "What the process keeps to: a size, a share of what it may use (of its control group or the machine), auto (70%, or the GOMEMLIMIT of the environment), or off. Near it new connections are refused with 0x89 and queues get less room; nearer still publishes are refused.",
		field: in(func(c *Config) any { return &c.Memory }),
	},
}

var policyOptions = []option{
	{
		name: "policy.shared_strategy", kind: word, reload: Live, words: broker.StrategyNames(),
		doc:   "Which member of a shared subscription gets a message. The hashes are of the publisher's client identifier and of the topic name, and keep their order.",
		field: in(func(c *Config) any { return &c.Policy.SharedStrategy }),
	},
	{
		name: "policy.shared_redeliver", kind: toggle, reload: Live,
		doc:   "Gives a QoS 1 message that a member left unacknowledged to another one as soon as its connection drops, not only when its session ends.",
		field: in(func(c *Config) any { return &c.Policy.SharedRedeliver }),
	},
	{
		name: "policy.validate_payload", kind: toggle, reload: Live,
		doc:   "Refuses payloads that are said to be UTF-8 and are not.",
		field: in(func(c *Config) any { return &c.Policy.ValidatePayload }),
	},
	{
		name: "policy.disconnect_on_deny", kind: toggle, reload: Live,
		doc:   "Ends the connection of a client that publishes what it may not, instead of answering Not authorized.",
		field: in(func(c *Config) any { return &c.Policy.DisconnectOnDeny }),
	},
	{
		name: "policy.response_information", kind: text, reload: AtNextConnection, words: []string{"response/%c"},
		doc:   "Given to MQTT 5.0 clients that ask for Response Information; %c stands for the client identifier. Empty gives none.",
		field: in(func(c *Config) any { return &c.Policy.ResponseInformation }), check: checkResponse,
	},
	{
		name: "policy.sys_interval", kind: span, reload: Live, min: -second, max: 24 * 3600 * second,
		doc:   "The time between two publications of the $SYS topics. -1s turns them off.",
		field: in(func(c *Config) any { return &c.Policy.SysInterval }),
	},
}

var storeOptions = []option{
	{
		name: "store.durability", kind: word, reload: AtRestart, words: durabilityWords,
		doc:   "What has happened to a message, a subscription or a session when it is acknowledged: it is on disk (sync), it is on disk within 100 ms (interval: a power cut may lose that much, a crash of the broker nothing), or it is in memory only (memory: nothing is written, and nothing survives a restart).",
		field: in(func(c *Config) any { return &c.Store.Durability }),
	},
	{
		name: "store.durability_by_topic", kind: sections, reload: Live, of: durabilityTable,
		doc:   "Other classes for messages of some topics. The first entry whose filter matches counts.",
		field: in(func(c *Config) any { return &c.Policy.DurabilityByTopic }),
	},
	{
		name: "store.on_damage", kind: word, reload: AtRestart, words: []string{"set-aside", "refuse"},
		doc:   "What to do when something in the data directory is damaged: move it aside, name what is lost, and serve the rest (set-aside), or do not start (refuse). The end of the log that a power cut tore off is no damage.",
		field: in(func(c *Config) any { return &c.Store.OnDamage }),
	},
	{
		name: "store.write_buffer", kind: size, reload: AtRestart, min: mib, max: 16 << 30,
		doc:   "Changes that are collected in memory, and in the log, before they are written out in order. Up to three times as much memory is used for a short time.",
		field: in(func(c *Config) any { return &c.Store.WriteBuffer }),
	},
	{
		name: "store.when_full", kind: word, reload: Live, words: []string{"refuse", "hold"},
		doc:   "What publishers of messages that must be kept get while the disk is full: MQTT 5.0 clients 0x97 (quota exceeded), older ones the end of their connection (refuse), or nothing until there is room: their acknowledgement waits, and so does what they publish next (hold).",
		field: in(func(c *Config) any { return &c.Policy.WhenFull }),
	},
	{
		name: "store.max_queue_messages", kind: count, reload: AtRestart,
		doc:   "Messages kept for one filter of persistent sessions, for all sessions that have it together; what happens beyond it, store.queue_policy says. 0 means no bound, here and below.",
		field: in(func(c *Config) any { return &c.Store.MaxQueueMessages }),
	},
	{
		name: "store.max_queue_bytes", kind: size, reload: AtRestart,
		doc:   "Likewise, in bytes of topic, properties and payload.",
		field: in(func(c *Config) any { return &c.Store.MaxQueueBytes }),
	},
	{
		name: "store.max_session_messages", kind: count, reload: AtRestart,
		doc:   "Messages owed to one persistent session, by all its filters but shared ones together; likewise.",
		field: in(func(c *Config) any { return &c.Store.MaxSessionMessages }),
	},
	{
		name: "store.max_session_bytes", kind: size, reload: AtRestart,
		doc:   "Likewise, in bytes.",
		field: in(func(c *Config) any { return &c.Store.MaxSessionBytes }),
	},
	{
		name: "store.queue_policy", kind: word, reload: AtRestart, words: policyWords,
		doc:   "What happens to a message for which a queue has no room: what has waited longest is dropped for it, it is dropped, its publisher gets 0x97 (quota exceeded; older clients the end of their connection), or its publisher waits.",
		field: in(func(c *Config) any { return &c.Store.Policy }),
	},
	{
		name: "store.max_retained", kind: count, reload: AtRestart,
		doc:   "Retained messages in all; more are refused.",
		field: in(func(c *Config) any { return &c.Store.MaxRetained }),
	},
	{
		name: "store.max_retained_bytes", kind: size, reload: AtRestart,
		doc:   "Likewise, in bytes.",
		field: in(func(c *Config) any { return &c.Store.MaxRetainedBytes }),
	},
	{
		name: "store.max_retained_message", kind: size, reload: AtRestart,
		doc:   "The largest payload of a retained message.",
		field: in(func(c *Config) any { return &c.Store.MaxRetainedPerWrite }),
	},
	{
		name: "store.max_sessions", kind: count, reload: AtRestart,
		doc:   "Persistent sessions in all; more are refused.",
		field: in(func(c *Config) any { return &c.Store.MaxSessions }),
	},
}

// policyWords are the queue policies in the order of their values.
var policyWords = []string{store.DropOldest.String(), store.DropNewest.String(), store.Reject.String(), store.Block.String()}

// durabilityWords are the classes in the order of their values.
var durabilityWords = []string{store.Sync.String(), store.Interval.String(), store.InMemory.String()}

var durabilityTable = &table{
	make: func() any { return &broker.TopicDurability{} },
	options: []option{
		{
			name: "filter", kind: text, reload: Live, check: checkFilter, words: []string{"telemetry/#"},
			doc:   "A topic filter; not a shared one.",
			field: in(func(t *broker.TopicDurability) any { return &t.Filter }),
		},
		{
			name: "durability", kind: word, reload: Live, words: durabilityWords,
			doc:   "The class of messages whose topic matches. It has to be given.",
			field: in(func(t *broker.TopicDurability) any { return &t.Durability }),
		},
	},
}

var endOptions = []option{
	{
		name: "alarms.loop_blocked", kind: span, reload: AtRestart, max: 3600 * second,
		doc:   "How long one of the broker's threads may be blocked before it is logged, with where it is blocked, and the alarm loop_blocked is raised. 0 means never.",
		field: in(func(c *Config) any { return &c.Alarms.LoopBlocked }),
	},
	{
		name: "shutdown.timeout", kind: span, reload: Live, max: 3600 * second,
		doc:   "How long clients may take to leave when the server ends. Then they are cut off.",
		field: in(func(c *Config) any { return &c.Shutdown.Timeout }),
	},
}

var listenerTable = &table{
	make: func() any { l := newListener(""); return &l },
	groups: map[string]string{
		"tls":       "Certificates. The files are followed: new content is in use from the next connection on.",
		"proxy":     "PROXY protocol, versions 1 and 2.",
		"websocket": "MQTT over WebSocket.",
	},
	options: []option{
		{
			name: "name", kind: text, reload: AtRestart, check: checkName, words: []string{"public"},
			doc:   "What logs and metrics call the listener; its address if empty.",
			field: in(func(l *Listener) any { return &l.Name }),
		},
		{
			name: "address", kind: text, reload: AtRestart, check: checkListener,
			words: []string{"localhost:1883", "tls://:8883", "ws://127.0.0.1:8083", "unix:///run/noctule/mqtt.sock"},
			doc:   "tcp://, tls://, ws://, wss:// with host and port, unix:// with a path, or a bare host and port that takes MQTT, WebSocket and, with a certificate, TLS. localhost means 127.0.0.1 and, where there is one, ::1.",
			field: in(func(l *Listener) any { return &l.Address }),
		},
		{
			name: "plaintext", kind: toggle, reload: AtRestart,
			doc:   "Allows connections without TLS on an address that is not loopback: passwords and messages can be read on the way.",
			field: in(func(l *Listener) any { return &l.Plaintext }),
		},
		{
			name: "reuse_port", kind: toggle, reload: AtRestart,
			doc:   "Lets several sockets listen on the port, one for each of the broker's threads, and other brokers of the same user beside it; the kernel deals clients among them (SO_REUSEPORT, Linux only). Measured, it gains nothing when many connect at once, deals few clients unevenly, and loses those that wait when one socket closes: for replacing a running broker, not for speed.",
			field: in(func(l *Listener) any { return &l.ReusePort }),
		},
		{
			name: "tls.cert", kind: text, reload: AtRestart, check: checkPath, words: []string{"/etc/noctule/server.crt"},
			doc:   "The server's certificate with its chain, a PEM file.",
			field: in(func(l *Listener) any { return &l.TLS.Cert }),
		},
		{
			name: "tls.key", kind: text, reload: AtRestart, check: checkPath, words: []string{"/etc/noctule/server.key"},
			doc:   "Its private key, a PEM file.",
			field: in(func(l *Listener) any { return &l.TLS.Key }),
		},
		{
			name: "tls.client_ca", kind: text, reload: AtRestart, check: checkPath, words: []string{"/etc/noctule/clients.crt"},
			doc:   "The authorities whose client certificates are accepted, a PEM file.",
			field: in(func(l *Listener) any { return &l.TLS.ClientCA }),
		},
		{
			name: "tls.client_crl", kind: text, reload: AtRestart, check: checkPath, words: []string{"/etc/noctule/revoked.crl"},
			doc:   "Lists of revoked client certificates, signed by those authorities: PEM, or one in DER. A certificate is refused that is on its issuer's list, or whose issuer has no list or one that has expired. Connections that are open stay.",
			field: in(func(l *Listener) any { return &l.TLS.ClientCRL }),
		},
		{
			name: "tls.client_auth", kind: word, reload: AtRestart, words: []string{"none", "optional", "required"},
			doc:   "Whether clients show a certificate. One that is shown must be valid.",
			field: in(func(l *Listener) any { return &l.TLS.ClientAuth }),
		},
		{
			name: "tls.min_version", kind: word, reload: AtRestart, words: []string{"1.2", "1.3"},
			doc:   "The lowest version of TLS.",
			field: in(func(l *Listener) any { return &l.TLS.MinVersion }),
		},
		{
			name: "tls.username_from", kind: word, reload: AtRestart, words: []string{"none", "cn", "san_dns", "san_email", "subject", "serial"},
			doc:   "Lets clients with a valid certificate in, with a name of the certificate as user name: the common name, the first DNS name, the first e-mail address, the whole subject as CN=lamp,O=Example, or the serial number in hexadecimal.",
			field: in(func(l *Listener) any { return &l.TLS.UsernameFrom }),
		},
		{
			name: "proxy.trusted", kind: texts, reload: AtRestart, check: checkPrefix, words: []string{"10.0.0.0/8"},
			doc:   "Address ranges of the proxies that tell whose a connection is. Empty turns PROXY protocol off.",
			field: in(func(l *Listener) any { return &l.Proxy.Trusted }),
		},
		{
			name: "websocket.paths", kind: texts, reload: AtRestart, check: checkWebPath, words: []string{"/mqtt"},
			doc:   "The paths that answer WebSocket clients.",
			field: in(func(l *Listener) any { return &l.WebSocket.Paths }),
		},
		{
			name: "websocket.origins", kind: texts, reload: AtRestart, check: checkOrigin, words: []string{"https://app.example.org"},
			doc:   "Web pages that may connect, by origin, besides those of the same host. \"*\" is any page.",
			field: in(func(l *Listener) any { return &l.WebSocket.Origins }),
		},
	},
}
