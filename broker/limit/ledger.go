// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package limit

import "sync"

// A Ledger knows whose the retained messages are, by topic: some 200 bytes for each and its topic. It is there only while a rule wants it. Any
// goroutine.
type Ledger struct {
	mu      sync.Mutex // guards the following
	topics  map[string]entry
	holders map[string]*holder
}

// Retained is one retained message as the ledger has it.
type Retained struct {
	Topic   string // kept
	Key     string // whose it is; kept
	Size    int64  // bytes
	Expires int64  // unix ns; 0 = never
	At      uint64 // grows with each message of the topic that the store took
}

type entry struct {
	Retained
	holder *holder
}

// holder is one who has retained messages.
type holder struct {
	topics map[string]struct{}
	bytes  int64
	swept  int64 // unix ns, when those that had expired were taken out
}

// NewLedger makes an empty one.
func NewLedger() *Ledger { return &Ledger{topics: map[string]entry{}, holders: map[string]*holder{}} }

// sweepEvery is how often the ledger looks for expired messages of one who is at the limit, in nanoseconds.
const sweepEvery = 1e9

// Reserve enters a message that is about to be kept, unless its holder would have more than the bounds then; 0 is no bound. A message that is
// there under the topic is replaced, whoever's it is.
func (l *Ledger) Reserve(r Retained, now, most, mostBytes int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	was, known := l.topics[r.Topic]
	h := l.holders[r.Key]
	fits := func() bool {
		n, bytes := int64(1), r.Size
		if h != nil {
			n, bytes = n+int64(len(h.topics)), bytes+h.bytes
		}
		if known && was.Key == r.Key {
			n, bytes = n-1, bytes-was.Size
		}
		return (most <= 0 || n <= most) && (mostBytes <= 0 || bytes <= mostBytes)
	}
	if !fits() {
		if h == nil || now-h.swept < sweepEvery {
			return false
		}
		l.sweep(h, now)
		was, known = l.topics[r.Topic]
		if h = l.holders[r.Key]; !fits() {
			return false
		}
	}
	r.At = was.At
	l.put(r)
	return true
}

// Set enters what the store has taken; what is older than what the ledger has is not news.
func (l *Ledger) Set(r Retained) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if was, known := l.topics[r.Topic]; !known || r.At >= was.At {
		l.put(r)
	}
}

// Found enters what was found in the store, unless the topic is known.
func (l *Ledger) Found(r Retained) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.topics[r.Topic]; !known {
		l.put(r)
	}
}

// Delete takes out the message of a topic, which the store has deleted at a time as in Set.
func (l *Ledger) Delete(topic string, at uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if was, known := l.topics[topic]; known && at >= was.At {
		l.remove(was)
	}
}

// Of is how many messages there are of a holder, and their bytes.
func (l *Ledger) Of(key string) (n, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h := l.holders[key]; h != nil {
		return int64(len(h.topics)), h.bytes
	}
	return 0, 0
}

func (l *Ledger) put(r Retained) {
	if was, known := l.topics[r.Topic]; known {
		l.remove(was)
	}
	h := l.holders[r.Key]
	if h == nil {
		h = &holder{topics: map[string]struct{}{}}
		l.holders[r.Key] = h
	}
	h.topics[r.Topic] = struct{}{}
	h.bytes += r.Size
	l.topics[r.Topic] = entry{r, h}
}

func (l *Ledger) remove(e entry) {
	delete(l.topics, e.Topic)
	delete(e.holder.topics, e.Topic)
	e.holder.bytes -= e.Size
	if len(e.holder.topics) == 0 {
		delete(l.holders, e.Key)
	}
}

func (l *Ledger) sweep(h *holder, now int64) {
	h.swept = now
	for topic := range h.topics {
		if e := l.topics[topic]; e.Expires != 0 && e.Expires <= now {
			l.remove(e)
		}
	}
}
