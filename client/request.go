// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/noctule/noctule/mqtt"
)

// replies are the requests that wait for their response.
type replies struct {
	mu      sync.Mutex               // a leaf
	waiting map[string]chan *Message // by correlation data
	topics  []string                 // that responses come to, and are subscribed

	subscribing chan struct{} // has room for one: the right to subscribe
}

func (r *replies) init() {
	r.waiting = make(map[string]chan *Message)
	r.subscribing = make(chan struct{}, 1)
}

// take hands a response to the request that waits for it.
func (r *replies) take(m *Message) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	ch := r.waiting[string(m.CorrelationData)]
	if ch == nil || !slices.Contains(r.topics, m.Topic) {
		return false
	}
	delete(r.waiting, string(m.CorrelationData))
	ch <- m // it has room for one
	return true
}

// Request publishes a message and waits for the response to it, which comes to ResponseTopic with the CorrelationData of
// the request. Where these are not set the client chooses them; the topic is then below what the server gave as Response
// Information, or else below reply/. Responses that come too late are left to other handlers. 5.0 only.
func (c *Client) Request(ctx context.Context, m Message) (*Message, error) {
	if c.opt.Version < mqtt.V5 {
		return nil, errors.New("client: request: it needs MQTT 5.0")
	}
	if m.CorrelationData == nil {
		m.CorrelationData = []byte(rand.Text())
	}
	if err := c.replyTopic(ctx, &m); err != nil {
		return nil, fmt.Errorf("client: request: %w", err)
	}
	key, response := string(m.CorrelationData), make(chan *Message, 1)
	r := &c.replies
	r.mu.Lock()
	if r.waiting[key] != nil {
		r.mu.Unlock()
		return nil, errors.New("client: request: another one with the same correlation data waits")
	}
	r.waiting[key] = response
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.waiting, key)
		r.mu.Unlock()
	}()
	if err := c.Publish(ctx, m); err != nil {
		return nil, err
	}
	select {
	case answer := <-response:
		return answer, nil
	case <-c.ctx.Done():
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// replyTopic chooses the topic of responses, and subscribes to it if no request has done so before.
func (c *Client) replyTopic(ctx context.Context, m *Message) error {
	r := &c.replies
	select {
	case r.subscribing <- struct{}{}:
		defer func() { <-r.subscribing }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if m.ResponseTopic == "" {
		if err := c.Connected(ctx); err != nil {
			return err
		}
		m.ResponseTopic = c.ownReplyTopic()
	}
	r.mu.Lock()
	known := slices.Contains(r.topics, m.ResponseTopic)
	r.mu.Unlock()
	if known {
		return nil
	}
	if err := m.check(c.opt.Version); err != nil {
		return err
	}
	if _, err := c.Subscribe(ctx, Subscription{Filter: m.ResponseTopic, QoS: 1}); err != nil {
		return err
	}
	r.mu.Lock()
	r.topics = append(r.topics, m.ResponseTopic)
	r.mu.Unlock()
	return nil
}

// ownReplyTopic is where responses come to if the caller does not mind.
func (c *Client) ownReplyTopic() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ownReply == "" {
		unique := rand.Text() // nobody else's, also if the client identifier is shared
		c.ownReply = "reply/" + unique
		if l := c.link; l != nil {
			if prefix, ok := l.connack.Properties.String(mqtt.PropResponseInformation); ok && prefix != "" {
				c.ownReply = strings.TrimSuffix(prefix, "/") + "/" + unique
			}
		}
	}
	return c.ownReply
}

// Respond publishes the response to a request: to its ResponseTopic, with its CorrelationData.
func (c *Client) Respond(ctx context.Context, request *Message, response Message) error {
	if request.ResponseTopic == "" {
		return errors.New("client: respond: the message asks for no response")
	}
	response.Topic, response.CorrelationData = request.ResponseTopic, request.CorrelationData
	return c.Publish(ctx, response)
}
