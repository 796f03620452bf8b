// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0
// Goes through what an application does with mqtt.js, in 3.1, 3.1.1 and 5.0, over TCP and WebSocket.
const mqtt = require('mqtt')
const port = process.argv[2]
const check = (ok, what) => { if (!ok) throw new Error(what) }

class Client {
  static async open (url, version, id, more = {}) {
    const self = new Client()
    self.got = []
    self.c = await mqtt.connectAsync(url, { protocolVersion: version, protocolId: version === 3 ? 'MQIsdp' : 'MQTT', clientId: id, reconnectPeriod: 0, ...more })
    self.c.on('message', (topic, payload, packet) => self.got.push({ topic, payload: payload.toString(), packet }))
    return self
  }

  async wait (n) {
    const end = Date.now() + 10000
    while (this.got.length < n && Date.now() < end) await new Promise(resolve => setTimeout(resolve, 10))
    check(this.got.length === n, `wanted ${n} messages, got ${this.got.length}`)
    const got = this.got
    this.got = []
    return got
  }
}

async function go (url, version) {
  const name = `${version}-${url.slice(0, 2)}`
  const sub = await Client.open(url, version, 's' + name)
  const pub = await Client.open(url, version, 'p' + name)
  await sub.c.subscribeAsync(`${name}/#`, { qos: 2 })
  for (const qos of [0, 1, 2]) await pub.c.publishAsync(`${name}/t`, `m${qos}`, { qos })
  const got = await sub.wait(3)
  check(got.every((g, i) => g.payload === `m${i}` && g.packet.qos === i), 'QoS 0 to 2')
  await pub.c.publishAsync(`${name}/kept`, 'r', { qos: 1, retain: true })
  await sub.wait(1)
  const late = await Client.open(url, version, 'l' + name)
  await late.c.subscribeAsync(`${name}/kept`, { qos: 1 })
  check((await late.wait(1))[0].packet.retain, 'RETAIN is not set')
  const gone = await Client.open(url, version, 'g' + name, { will: { topic: `${name}/will`, payload: Buffer.from('gone'), qos: 1 } })
  gone.c.stream.destroy()
  check((await sub.wait(1))[0].payload === 'gone', 'will')
  const lasting = { clean: false, properties: version === 5 ? { sessionExpiryInterval: 600 } : undefined }
  const away = await Client.open(url, version, 'a' + name, lasting)
  await away.c.subscribeAsync(`${name}/q`, { qos: 1 })
  await away.c.endAsync()
  for (let i = 0; i < 20; i++) await pub.c.publishAsync(`${name}/q`, `${i}`, { qos: 1 })
  const c = mqtt.connect(url, { protocolVersion: version, protocolId: version === 3 ? 'MQIsdp' : 'MQTT', clientId: 'a' + name, reconnectPeriod: 0, ...lasting })
  const back = new Client()
  back.got = []
  back.c = c
  c.on('message', (topic, payload, packet) => back.got.push({ topic, payload: payload.toString(), packet }))
  check((await back.wait(20)).every((g, i) => g.payload === `${i}`), 'missed while away')
  for (const x of [sub, pub, late, back]) await x.c.endAsync()
}

async function main () {
  for (const version of [3, 4, 5]) {
    for (const url of [`mqtt://127.0.0.1:${port}`, `ws://127.0.0.1:${port}/mqtt`]) await go(url, version)
  }
  console.log('all well')
  process.exit(0)
}
main().catch(err => { console.log(err); process.exit(1) })
