// Looks at the operator's page in a headless Chromium, as crates/gateway/tests/operator/browser.rs asks:
//   node tests/browser/operator.mjs URL CHROMIUM FOLDER NAME
// Takes screenshots to FOLDER/NAME-*.png, and prints what it found as one line of JSON.
import { chromium } from 'playwright-core'

const [url, executablePath, folder, name] = process.argv.slice(2)
const looks = [
  { look: 'desktop', viewport: { width: 1280, height: 900 }, colorScheme: 'light' },
  { look: 'dark', viewport: { width: 1280, height: 900 }, colorScheme: 'dark' },
  { look: 'phone', viewport: { width: 375, height: 812 }, colorScheme: 'light', deviceScaleFactor: 2 },
  { look: 'phone-dark', viewport: { width: 375, height: 812 }, colorScheme: 'dark', deviceScaleFactor: 2 },
]

// In a container Chromium runs as root, where it has no sandbox.
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-dev-shm-usage'] })
const found = []
try {
  for (const { look, ...settings } of looks) {
    const page = await browser.newPage(settings)
    const complaints = []
    const requests = []
    page.on('console', (message) => complaints.push(message.text()))
    page.on('pageerror', (error) => complaints.push(String(error)))
    page.on('requestfailed', (request) => complaints.push(`${request.url()} failed`))
    page.on('request', (request) => requests.push(request.url()))
    const response = await page.goto(url, { waitUntil: 'networkidle' })
    const seen = await page.evaluate(() => ({
      width: document.documentElement.clientWidth,
      scrollWidth: document.documentElement.scrollWidth,
      // What sticks out, by name, so that a failure says what to mend.
      wide: [...document.querySelectorAll('body *')]
        .filter((e) => e.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
        .map((e) => `${e.tagName.toLowerCase()}.${e.getAttribute('class') ?? ''}`),
      // Words that do not fit their box.
      cut: [...document.querySelectorAll('td, dd, p, h1, h2, li, span')]
        .filter((e) => getComputedStyle(e).display !== 'inline' && e.scrollWidth > e.clientWidth + 1)
        .map((e) => e.textContent.slice(0, 60)),
      text: document.body.innerText,
      back: getComputedStyle(document.body).backgroundColor,
      ink: getComputedStyle(document.body).color,
      scripts: document.scripts.length,
    }))
    await page.screenshot({ path: `${folder}/${name}-${look}.png`, fullPage: true })
    found.push({ look, status: response.status(), complaints, requests, ...seen })
    await page.close()
  }
} finally {
  await browser.close()
}
console.log(JSON.stringify(found))
