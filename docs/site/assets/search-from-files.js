// A browser starts no worker from a file. There, the search runs in a hidden frame of the page.
// Messages are copied, as between a page and a worker: the search changes what it gets.
if (location.protocol === "file:") {
  const messageWith = (data) => new MessageEvent("message", { data: structuredClone(data) })

  window.Worker = class {
    constructor(url) {
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      this.waiting = []
      document.documentElement.append(this.frame)
      const inside = this.frame.contentWindow
      inside.postMessage = (data) => {
        const message = messageWith(data)
        setTimeout(() => this.onmessage?.(message))
      }
      const script = inside.document.createElement("script")
      script.src = url
      script.onload = () => {
        const messages = this.waiting
        this.waiting = null
        messages.forEach((message) => inside.dispatchEvent(message))
      }
      script.onerror = (event) => this.onerror?.(event)
      inside.document.body.append(script)
    }

    postMessage(data) {
      const message = messageWith(data)
      if (this.waiting) this.waiting.push(message)
      else this.frame.contentWindow.dispatchEvent(message)
    }

    terminate() {
      this.frame.remove()
    }
  }
}
