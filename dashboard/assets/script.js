// What the dashboard does where scripts run: it keeps pages up to date, and listens to the keyboard. Everything works without.
(() => {
  'use strict'
  const $ = (selector) => document.querySelector(selector)
  const live = $('#live')

  // Updates: the page's own address, asked for as a stream, sends its middle whenever that changes.

  const state = $('#live-state')
  let source = null, held = false, waiting = null, again = 0, silent = 0

  // The server says something every 15 seconds at least. A proxy that keeps it to itself raises no error.
  const silence = 40000

  function show(name, text) {
    state.className = 'live ' + name
    state.lastElementChild.textContent = text
  }

  function connect() {
    clearTimeout(again)
    if (source || held || document.hidden) return
    const address = new URL(location.href)
    address.searchParams.delete('done')
    address.hash = ''
    show('', 'connecting')
    source = new EventSource(address)
    source.addEventListener('page', (e) => { heard(); down(''); waiting = e.data; apply() })
    source.addEventListener('down', (e) => { heard(); down(e.data); show('off', 'no data') })
    source.addEventListener('still', heard) // nothing has changed
    source.onerror = fail // the server is gone, or has too many who watch
    heard()
  }

  function heard() {
    clearTimeout(silent)
    silent = setTimeout(fail, silence)
  }

  function fail() {
    disconnect()
    lost()
    again = setTimeout(connect, 3000)
  }

  // Whoever looks has to know that what he sees is old: a stream cannot tell why it is refused, so reloading does.
  function lost() {
    if ($('#down').hidden) down(`No updates since ${new Date().toLocaleTimeString()}: what is below is as it was then. If this lasts, reload the page.`)
    show('off', 'reconnecting')
  }

  function disconnect() {
    if (source) source.close()
    source = null
    clearTimeout(again)
    clearTimeout(silent)
  }

  function down(why) {
    const banner = $('#down')
    banner.hidden = why === ''
    if (banner.textContent !== why) banner.textContent = why
  }

  // A click or a keystroke is one thing, from its beginning to its end.
  let pressed = false, touched = 0
  addEventListener('pointerdown', () => { pressed = true }, true)
  for (const event of ['pointerup', 'pointercancel', 'blur']) {
    addEventListener(event, () => { pressed = false; touched = Date.now() }, true)
  }
  addEventListener('keydown', () => { touched = Date.now() }, true)

  // Nobody's selection or typing is taken away: what came meanwhile is shown when it is over.
  function busy() {
    const selection = getSelection()
    const focus = document.activeElement
    return live.querySelector('input[name=id]:checked, details[open]') !== null ||
      (!selection.isCollapsed && live.contains(selection.anchorNode)) ||
      (live.contains(focus) && focus.matches('input:not([type=checkbox])'))
  }

  // morph makes the children of one element like those of another. What is alike stays, with its focus and scroll position.
  function morph(from, to) {
    const old = [...from.childNodes], wanted = [...to.childNodes]
    for (let i = 0; i < Math.max(old.length, wanted.length); i++) {
      const a = old[i], b = wanted[i]
      if (!b) a.remove()
      else if (!a) from.append(b)
      else if (a.nodeName !== b.nodeName || a.id !== b.id) a.replaceWith(b)
      else if (a.nodeType !== Node.ELEMENT_NODE) { if (a.data !== b.data) a.data = b.data }
      else {
        for (const { name } of [...a.attributes]) if (!b.hasAttribute(name)) a.removeAttribute(name)
        for (const { name, value } of b.attributes) if (a.getAttribute(name) !== value) a.setAttribute(name, value)
        morph(a, b)
      }
    }
  }

  function apply() {
    if (held || waiting === null) return
    if (busy()) return show('held', 'waits for you')
    if (pressed || Date.now() - touched < 300) return setTimeout(apply, 100)
    const place = here()
    // A stream is the server's own page, rendered and escaped as the first time.
    const next = document.createElement('div')
    next.innerHTML = waiting
    waiting = null
    morph(live, next)
    enhance()
    if (place !== '') mark(rows().find((row) => key(row) === place), false)
    show('on', 'live')
  }

  if (live && 'live' in document.body.dataset) {
    state.hidden = false
    connect()
    state.addEventListener('click', toggle)
    document.addEventListener('visibilitychange', () => document.hidden ? disconnect() : connect())
    addEventListener('pagehide', disconnect)
    addEventListener('pageshow', connect)
    for (const event of ['selectionchange', 'change', 'focusout', 'toggle']) {
      document.addEventListener(event, () => setTimeout(apply), true)
    }
  }

  function toggle() {
    held = !held
    if (!held) return connect()
    disconnect()
    show('held', 'paused')
  }

  // What was done is said once: not again on reload.
  if (new URLSearchParams(location.search).has('done')) {
    const address = new URL(location.href)
    address.searchParams.delete('done')
    address.searchParams.delete('n')
    history.replaceState(null, '', address)
  }

  // What is asked for twice is done twice: one click is enough, and a page that a browser kept is out of date.
  document.addEventListener('submit', (e) => {
    if (e.target.method !== 'post') return
    if ('sent' in e.target.dataset) return e.preventDefault()
    e.target.dataset.sent = ''
    if (e.submitter) e.submitter.textContent += ' …'
  })
  addEventListener('pageshow', (e) => { if (e.persisted && $('[data-sent]')) location.reload() })

  const tab = $('.tabs [aria-current]')
  if (tab) tab.parentElement.scrollTop = tab.offsetTop

  // Selecting.

  const picks = () => [...document.querySelectorAll('.picks input[name=id]')]

  function enhance() {
    const all = $('#pick-all')
    if (!all) return
    all.hidden = false
    count()
  }

  function count() {
    const all = $('#pick-all'), picked = $('#picked')
    if (!picked) return
    const list = picks(), n = list.filter((box) => box.checked).length
    picked.textContent = n
    all.checked = n > 0 && n === list.length
    all.indeterminate = n > 0 && n < list.length
    for (const button of document.querySelectorAll('#bar fieldset:first-child button')) button.disabled = n === 0
  }

  document.addEventListener('change', (e) => {
    if (e.target.id === 'pick-all') for (const box of picks()) box.checked = e.target.checked
    count()
  })
  enhance()

  // The keyboard.

  const rows = () => [...document.querySelectorAll('[data-row]')]
  const key = (row) => row.querySelector('a')?.getAttribute('href') ?? ''
  const marked = () => $('[data-row].here')
  const here = () => marked() ? key(marked()) : ''

  function mark(row, scroll = true) {
    marked()?.classList.remove('here')
    row?.classList.add('here')
    if (scroll) row?.scrollIntoView({ block: 'nearest' })
  }

  function step(by) {
    const list = rows(), at = list.indexOf(marked())
    mark(list[at < 0 ? 0 : Math.max(0, Math.min(list.length - 1, at + by))])
  }

  const help = $('#help'), open = $('#help-open')
  if (open) {
    open.hidden = false
    open.addEventListener('click', () => help.showModal())
  }

  const pages = { o: './', e: 'events', d: 'deadletters', w: 'workers' }
  let going = 0
  const keys = {
    g: () => { going = Date.now() },
    j: () => step(1),
    k: () => step(-1),
    x: () => marked()?.querySelector('input[name=id]')?.click(),
    r: () => $('#retry-selected:not(:disabled)')?.click(),
    p: () => { if (!state.hidden) toggle() },
    '/': () => ($('input[data-first]') ?? $('main input:not([type=hidden])'))?.focus(),
    '?': () => open && help.showModal(),
    Enter: () => { if (!document.activeElement?.closest('a, button')) marked()?.querySelector('a')?.click() },
  }

  document.addEventListener('keydown', (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || help.open) return
    const typing = e.target.matches('input:not([type=checkbox]), textarea, select')
    if (e.key === 'Escape' && typing) return e.target.blur()
    if (typing) return
    const page = Date.now() - going < 1500 && pages[e.key]
    going = 0
    if (page) {
      e.preventDefault()
      location.href = page
    } else if (keys[e.key]) {
      if (e.key !== 'Enter') e.preventDefault()
      keys[e.key]()
    }
  })
})()
