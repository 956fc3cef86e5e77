// Open a study in OHIF with a headless Chromium, as a person would: the images, the SEG over them, the SR beside them.
// node open_study.mjs MODULES URL FOLDER: playwright-core from MODULES; screenshots and found.json go to FOLDER.
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [modules, url, folder] = process.argv.slice(2);
const { chromium } = createRequire(join(modules, 'package.json'))('playwright-core');
const WAIT_MS = 60_000;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
  ],
});
const page = await browser.newPage({ viewport: { width: 1600, height: 900 } });
page.setDefaultTimeout(WAIT_MS);

const found = { errors: [], requests: [], steps: [] };
page.on('pageerror', error => found.errors.push(`page: ${error.message}`));
page.on('console', message => {
  // OHIF logs what its error boundary has caught as debug.
  if (message.type() === 'error' || /error boundary|something went wrong/i.test(message.text())) {
    found.errors.push(`console: ${message.text()}`);
  }
});
page.on('response', response => {
  if (response.status() >= 400) found.errors.push(`${response.status()} ${response.url()}`);
});
page.on('request', request => found.requests.push(request.url()));

const part = name => page.locator(`[data-cy="${name}"]`);
const pane = index => part('viewport-pane').nth(index);
const seriesOf = modality => part('study-browser-thumbnail-no-image').filter({ hasText: modality }).first();

async function step(name, act) {
  found.steps.push(name);
  await act();
}

try {
  await step('open the study', async () => {
    await page.goto(url);
    await page.getByText('Skip all').click();
    await page.getByText('Confirm and hide').click();
    await pane(0).getByText(/\(1\/\d+\)/).waitFor(); // the first of the images is drawn
  });
  await step('show the SEG', async () => {
    await seriesOf('SEG').dblclick();
    await part('yes-hydrate-btn').click();
    await part('panelSegmentation-btn').click();
    await page.locator('[data-cy="data-row"]').first().waitFor();
    found.segments = await page.locator('[data-cy="data-row"]').allInnerTexts();
  });
  await step('turn to the middle', async () => {
    await pane(0).hover();
    const position = async () => (await part('viewport-overlay-bottom-right').first().innerText()).match(/(\d+)\/(\d+)/);
    for (let turns = 0; turns < 100; turns++) {
      const [, at, of] = (await position()).map(Number);
      if (at >= of / 2) break;
      await page.mouse.wheel(0, 100);
      await page.waitForFunction(
        before => !document.querySelector('[data-cy="viewport-overlay-bottom-right"]').innerText.includes(before),
        `(${at}/${of})`,
      );
    }
    await page.waitForLoadState('networkidle');
    await page.waitForTimeout(500); // a frame of WebGL in software
    await pane(0).screenshot({ path: join(folder, 'segmentation.png') });
  });
  await step('show the SR beside it', async () => {
    await part('Layout').click();
    await part('Layout-0-1').click();
    await pane(1).click();
    await seriesOf('SR').dblclick();
    await pane(1).getByText('Imaging Measurement Report').waitFor();
    await page.waitForLoadState('networkidle');
    await page.waitForTimeout(500);
    found.report = await pane(1).innerText();
  });
} catch (error) {
  found.errors.push(`${found.steps.at(-1)}: ${error.message}`);
}
await page.screenshot({ path: join(folder, 'both.png') });
writeFileSync(join(folder, 'found.json'), JSON.stringify(found, null, 1));
await browser.close();
