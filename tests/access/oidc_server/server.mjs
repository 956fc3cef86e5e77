// An OpenID Connect provider for tests: oidc-provider, with people, clients, keys and a clock from the command line.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const given = JSON.parse(process.argv[2]);
const skew = given.skew_s * 1000;
const now = Date.now.bind(Date);
Date.now = () => now() + skew;

const require = createRequire(`${given.modules}/`);
const { default: Provider } = await import(pathToFileURL(require.resolve("oidc-provider")));
const provider = new Provider(`http://127.0.0.1:${given.port}`, {
  clients: given.clients,
  jwks: { keys: given.keys },
  cookies: { keys: ["for tests"] },
  claims: { openid: ["sub"], profile: ["preferred_username", "roles"] },
  conformIdTokenClaims: false, // roles are in the token itself, as hospitals' providers have them
  pkce: { required: () => true },
  findAccount: (_, sub) =>
    sub in given.people ? { accountId: sub, claims: () => ({ sub, ...given.people[sub] }) } : undefined,
});
provider.listen(given.port, "127.0.0.1", () => console.log("ready"));
