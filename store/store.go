// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package store keeps what survives a connection: persistent sessions with their subscriptions, cursors, windows and
// packet identifiers, the messages queued for them, retained messages, wills and expiry times.
//
// A change is a command. The caller fills a command, proposes it, and owns it again when its Done function is called:
// by then the command is committed (safe wherever the engine keeps things) and applied, or Err says why it is not.
// An acknowledgement to a client leaves after Done, never before.
//
// Commands of one topic are applied in the order in which they were proposed, and so are commands of one client
// identifier. Done functions of one topic group (Groups, GroupOf) are called in commit order, on a goroutine of the
// store; they must not block and usually post to a loop. Time enters through commands only.
//
// Inside, a machine applies commands deterministically: the same commands at the same positions make the same rows, which
// are all that has to survive, with the messages that they refer to. An engine has one goroutine, its committer, which
// takes whatever waits, makes it safe in the log, applies it and calls Done; Close ends it. Its queue is bounded by what
// callers do with Pending, and by refusing Publish beyond a limit. Messages handed in belong to all from then on and are
// never changed; all else in a command is copied or given back with Done. docs/adr/0002-store.md says why it is so.
//
// The package knows nothing of connections, loops or plug-ins.
package store

import (
	"errors"

	"github.com/noctule/noctule/mqtt"
)

// Errors that callers branch on. Others are faults of the engine.
var (
	// ErrFenced refuses a command whose epoch is not the session's: somebody else has claimed it since.
	ErrFenced = errors.New("store: session was claimed by another connection")
	// ErrNoSession refuses a command for a session that does not exist, or ended.
	ErrNoSession = errors.New("store: no such session")
	// ErrNotOwner refuses a claim by another user than the one that made the session.
	ErrNotOwner = errors.New("store: session belongs to another user")
	// ErrFull refuses what exceeds a limit or the disk; the caller answers 0x97 (quota exceeded).
	ErrFull = errors.New("store: quota exceeded")
	// ErrInvalid refuses what no client that speaks the standard can ask for: a filter or a name that is not one, a packet
	// identifier 0, a QoS above 2.
	ErrInvalid = errors.New("store: invalid command")
	// ErrClosed refuses everything after Close; Done is then called at once, on the caller's goroutine.
	ErrClosed = errors.New("store: closed")
)

// Never is the session expiry interval of a session that does not expire (section 3.1.2.11.2 of MQTT 5.0).
const Never = 0xFFFFFFFF

// SessionID names one session for its whole life; a client identifier whose session ended gets a new one.
type SessionID uint64

// Owner is the right to change a session: its id and the epoch of the claim. A later claim raises the epoch, and
// commands with an older one are refused with ErrFenced.
type Owner struct {
	ID    SessionID
	Epoch uint64
}

// Position names a stored message inside its topic group. Positions of one group grow in commit order; 0 is before all.
type Position uint64

// Ref names a stored message.
type Ref struct {
	Group    uint16
	Position Position
}

// Subscription is one subscription of a persistent session. Filter is whole, with $share and the share name if it is shared.
type Subscription struct {
	Filter            string
	QoS               mqtt.QoS
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte
	Identifier        uint32 // 0 = none
}

// SendState says how far the delivery of a window entry went.
type SendState byte

// States of an outbound delivery.
const (
	Sent     SendState = iota // PUBLISH was or may have been sent; PUBACK or PUBREC is due
	Released                  // PUBREC came, PUBREL was or may have been sent; PUBCOMP is due. The message is not needed any more.
)

// Inflight is one entry of a session's outbound window. What Claim hands out is shared with the store: Identifiers and
// Message must not be changed.
type Inflight struct {
	ID          uint16 // packet identifier, not 0
	QoS         mqtt.QoS
	State       SendState
	Retain      bool     // RETAIN flag of the PUBLISH as sent
	Identifiers []uint32 // subscription identifiers sent along
	Ref         Ref      // the stored message; zero for one that is in no queue (a retained message): Message is kept in the row then
	Share       string   // the whole filter of the shared subscription that Ref was assigned from, "" if none
	// Message is filled in by Claim for Sent entries. It is given to the store when Ref is zero, and may be given with a
	// Ref: it is kept then if the stored message is gone from its queue (a limit dropped it, or the session unsubscribed);
	// otherwise the command has entries without it in Done.
	Message *mqtt.Message
}

// Will is the message that the broker publishes for a client that is gone.
type Will struct {
	Message *mqtt.Message
	Delay   uint32 // seconds after the connection closed
}

// Delivery is a stored message that a queue owes to its reader.
type Delivery struct {
	Ref     Ref
	Message *mqtt.Message // shared: must not be changed
	// Filters are the reader's own filters that matched, whole, sorted; for the queue of a shared subscription just that one.
	Filters []string
}

// Claim makes the caller the owner of a client identifier's session: it resumes the session, or makes a new one.
// Commands of earlier owners are refused from its commit on.
type Claim struct {
	ClientID   string
	Username   string // the session belongs to this user; another one gets ErrNotOwner
	CleanStart bool   // drop what exists [MQTT-3.1.2-4]
	Expiry     uint32 // session expiry interval in seconds, > 0; Never = never
	Will       *Will  // nil = none; replaces the one of the connection before
	Now        int64  // Unix nanoseconds

	Done    func(*Claim)
	Context any // the caller's

	// Results, valid in Done.
	Err     error
	Present bool  // the session existed and goes on
	Owner   Owner // for later commands
	Session Session
	// Wills are due now: that of a session which this claim ended, and that of an earlier connection whose delay has
	// passed, or was 0. A will whose delay runs is cancelled by a claim that resumes the session [MQTT-3.1.3-9].
	Wills []DueWill
	Freed []Shared // shared messages assigned to the session that this claim ended: other members may have them now
}

// Session is a persistent session as stored.
type Session struct {
	Created       int64          // Unix nanoseconds
	Subscriptions []Subscription // sorted by filter
	Window        []Inflight     // in the order of first sending
	Received      []uint16       // packet identifiers of QoS 2 messages whose PUBREL is due, sorted
	NextID        uint16         // hint for the next packet identifier
}

// Drop ends whatever session a client identifier has (a clean start without a persistent session to follow, or an
// administrator's wish). Done is called with Existed.
type Drop struct {
	ClientID string
	Username string // as in Claim; AnyUser skips the check
	AnyUser  bool
	Now      int64

	Done    func(*Drop)
	Context any

	Err     error
	Existed bool
	ID      SessionID // of the session that ended
	Wills   []DueWill // due now, because the session ended
	Freed   []Shared  // as in Claim
}

// Detach says that the connection of a session is gone, and hands in what only the connection knew.
type Detach struct {
	Owner  Owner
	Expiry uint32 // seconds from Now; 0 ends the session at once
	// Will: KeepWill leaves the claimed will to fire after its delay (or at the session's end, whichever is first): a Tick
	// hands it out, and NextDue says when, which is at once for a delay of 0. Otherwise it is dropped unpublished.
	KeepWill   bool
	Window     []Inflight // the whole outbound window, in order of first sending
	Acked      []Ref      // acknowledged since the last Ack command
	AckedShare []Shared   // likewise, of shared subscriptions
	NextID     uint16
	Now        int64

	Done    func(*Detach)
	Context any

	Err   error
	Freed []Shared // as in Claim, if Expiry is 0
}

// Subscribe adds or replaces subscriptions of a persistent session. Messages whose Publish is proposed after Done are
// in the session's queue.
type Subscribe struct {
	Owner         Owner
	Subscriptions []Subscription

	Done    func(*Subscribe)
	Context any

	Err     error
	Existed []bool // per subscription: it replaced one with the same filter
}

// Unsubscribe removes subscriptions of a persistent session. Deliveries already in the window are not touched [MQTT-3.10.4-3].
type Unsubscribe struct {
	Owner   Owner
	Filters []string

	Done    func(*Unsubscribe)
	Context any

	Err     error
	Existed []bool
}

// Publish keeps a message for all persistent sessions with a matching subscription, as retained message if its Retain
// flag is set, and the publisher's QoS 2 packet identifier, all in one commit. A message of QoS 0 enters no queue, it
// can only be retained. An empty payload with the Retain flag removes the retained message [MQTT-3.3.1-6].
type Publish struct {
	Message *mqtt.Message // never changed afterwards, by nobody
	// Publisher and PacketID are set for a QoS 2 message from a persistent session: a second one with the same
	// identifier before Release is a Duplicate and changes nothing.
	Publisher Owner
	PacketID  uint16
	// WillOf is set when the message is that session's will: it is published at most once, and removed in the same
	// commit (also if a limit refuses the message). Duplicate says that there was no such will any more.
	WillOf SessionID
	// Durability is the class of the message (and of the packet identifier with it). InMemory is for messages only that no
	// packet identifier or will comes with; it is Interval otherwise. The memory engine takes all classes for InMemory.
	Durability Durability
	// IdentifierOnly keeps the packet identifier (and removes the will) but no message: no persistent session needs it.
	IdentifierOnly bool

	Done    func(*Publish)
	Context any

	Err       error
	Ref       Ref // where the message was kept; zero if no queue wanted it, or had room for it
	Duplicate bool
	Matched   bool // a persistent session had a matching subscription with QoS > 0, and the message is not QoS 0
}

// Release forgets a received QoS 2 packet identifier; PUBCOMP follows Done.
type Release struct {
	Owner    Owner
	PacketID uint16

	Done    func(*Release)
	Context any

	Err   error
	Found bool
}

// Window writes outbound window entries. A QoS 2 PUBLISH, or one with a zero Ref, is sent after Done; Released
// is written before PUBREL is sent, and acknowledges the message in its queue: the client has it. An entry whose
// message is not stored any more, and not given either, is left out.
type Window struct {
	Owner   Owner
	Entries []Inflight // added, or replaced where the ID is known
	NextID  uint16

	Done    func(*Window)
	Context any

	Err error
}

// Ack advances cursors: the messages were delivered to the end (PUBACK, PUBCOMP, refused by a reason code, or given
// up: too large, expired). It also removes window entries. Callers batch it: about every 100 ms or 1 000 messages.
type Ack struct {
	Owner Owner    // zero where only Share is given: the members' sessions are not stored
	Refs  []Ref    // of the session's own queue
	Share []Shared // of shared subscriptions
	IDs   []uint16 // window entries done with

	Done    func(*Ack) // may be nil
	Context any

	Err error
}

// Shared names a message of a shared subscription's queue.
type Shared struct {
	Filter string // whole
	Ref    Ref
}

// Tick moves time on: sessions whose expiry passed end, wills whose delay passed (or whose session ended) are due, and
// retained messages whose expiry passed are removed. One Tick takes a bounded number of these (MaxDue), earliest first.
type Tick struct {
	Now int64 // Unix nanoseconds

	Done    func(*Tick)
	Context any

	Err   error
	Ended []Ended
	Wills []DueWill // the caller publishes each with Publish.WillOf
	More  bool      // MaxDue was reached: another Tick finds more
}

// MaxDue is how many timers one Tick takes, so that no single command holds up the others.
const MaxDue = 1000

// Ended is a session that expired.
type Ended struct {
	ClientID string
	ID       SessionID
	Freed    []Shared // as in Claim
}

// DueWill is a will to publish now. It is handed out once, and kept until a Publish with WillOf names it, so that a
// crash between the two does not lose it.
type DueWill struct {
	ClientID string
	ID       SessionID
	Message  *mqtt.Message
}

// Retained is one retained message.
type Retained struct {
	Topic   string
	Message *mqtt.Message
}

// SessionInfo is what listings show of a stored session.
type SessionInfo struct {
	ClientID      string
	Username      string
	ID            SessionID
	Created       int64
	Attached      bool
	ExpiresAt     int64 // Unix nanoseconds, 0 while attached or never
	Subscriptions int
	Queued        int64 // messages not yet acknowledged; an upper bound is allowed where filters overlap
}

// Stats are counts for $SYS and metrics.
type Stats struct {
	Sessions      int // all persistent sessions
	Attached      int
	Subscriptions int
	Messages      int64 // stored messages
	MessageBytes  int64
	Retained      int
	RetainedBytes int64
	Commits       int64

	// Counted since start, for each reader that misses the message: Drops by cause; Dropped is the sum of those with which a
	// queue limit drops, Expired those that expired.
	Dropped, Expired int64
	Drops            [DropCauses]int64
	// Held are the publishes that wait for room now, with the policy Block.
	Held      int
	HeldBytes int64
	// Disk has the measures of a durable engine, and is nil in memory.
	Disk *DiskStats
}

// Queue reads one session's, or one shared subscription's, stored messages. It belongs to its opener, is used by one
// goroutine at a time, and reads may block on a disk.
type Queue interface {
	// Read appends to dst, per group in order of position, messages behind the positions in after (one per group,
	// len == Groups) that are not acknowledged and not in a window, until max messages or maxBytes of payload, and moves the positions in after
	// on: to the last message given, or, where all was read, to the group's last applied position, so that what is
	// published later has a greater one. Messages expired by now are skipped, counted and acknowledged.
	// more says that messages were left behind for want of room; the first message is given whatever its size.
	// A queue whose session ended, or was claimed since, gives ErrNoSession or ErrFenced.
	Read(after []Position, max int, maxBytes int, now int64, dst []Delivery) (_ []Delivery, more bool, err error)
}

// Store is the contract. All methods may be called from any goroutine; only those said to may block.
type Store interface {
	Groups() int              // number of topic groups, fixed for the life of the store
	GroupOf(topic string) int // the group of a topic name

	ProposeClaim(*Claim)
	ProposeDrop(*Drop)
	ProposeDetach(*Detach)
	ProposeSubscribe(*Subscribe)
	ProposeUnsubscribe(*Unsubscribe)
	ProposePublish(*Publish)
	ProposeRelease(*Release)
	ProposeWindow(*Window)
	ProposeAck(*Ack)
	ProposeTick(*Tick)

	// Barrier calls done when all that was proposed before, in every group, is applied; at once, on the caller's
	// goroutine, if nothing is pending. It does not wait for publishes that are held (Limits.Policy Block).
	Barrier(done func())

	// Matches says whether a persistent session (or a shared subscription with a persistent member) has a subscription
	// with QoS > 0 that matches. Lock-free, no allocation; true from before a Subscribe's Done on.
	Matches(topic []byte) bool

	// Has says whether a client identifier has a persistent session, as of the commands applied so far. From memory.
	Has(clientID string) bool
	// HasShare says whether a shared subscription (whole filter) has a queue: a persistent member, online or not. From memory.
	HasShare(filter string) bool

	// NextDue is the time of the earliest expiry or will, 0 if there is none. It may be in the past.
	NextDue() int64

	// Pending says how many commands, and bytes of messages in them, are proposed and not done: the measure for
	// back-pressure. Beyond a bound of the engine a Publish gets ErrFull. Publishes that are held are not pending; they have
	// a bound of the same size of their own.
	Pending() (commands int, bytes int64)

	// OpenQueue reads a session's queue; OpenShare that of a shared subscription (whole filter).
	OpenQueue(o Owner) Queue
	OpenShare(filter string) Queue

	// RetainedPage appends up to max retained messages (and about maxBytes) matching filter, in a fixed order behind the topic after ("" at
	// first); more says that there is more. Expired ones are left out. May block on a disk.
	RetainedPage(filter, after string, max, maxBytes int, now int64, dst []Retained) (_ []Retained, more bool, err error)

	// Sessions lists stored sessions in order of client identifier behind after. May block.
	Sessions(after string, max int) ([]SessionInfo, error)
	Stats() Stats

	// Close commits what was proposed and stops. May block.
	Close() error
}

// Limits bound what clients can make the store keep. Zero means no limit.
//
// A queue is that of one filter; all sessions with the filter share it, and so do all members of a shared subscription.
// Sizes are bytes of topic, properties and payload. Messages count until they are acknowledged, in flight or not.
type Limits struct {
	MaxQueueMessages int   // in the queue of one filter
	MaxQueueBytes    int64 // likewise
	// MaxSessionMessages and MaxSessionBytes bound what all queues together owe one session, those of shared subscriptions
	// excepted. A message that several filters of the session match counts once for each.
	//
	// With DropOldest a session may owe up to a sixteenth more, until its next claim, so that one message need not move
	// the cursors of a thousand sessions which are all at their limit; who claims a session finds no more than the limit.
	MaxSessionMessages int
	MaxSessionBytes    int64
	// Policy says what happens beyond the four limits above. With DropOldest the newest message always stays, however large it
	// is; with the others a message that is larger than a limit of bytes finds no room in an empty queue either, and Block
	// refuses it with ErrFull, since waiting would not help. A will (Publish.WillOf) is neither refused nor held, since
	// nobody is there to be told: room is made for it as with DropOldest, except with DropNewest.
	Policy QueuePolicy

	MaxRetained         int // retained messages; a Publish that would exceed it gets ErrFull (replacing is allowed)
	MaxRetainedBytes    int64
	MaxSessions         int // a Claim that would exceed it gets ErrFull
	MaxRetainedPerWrite int // largest retained payload, bytes
}
