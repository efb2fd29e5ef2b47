// A real OpenID Connect provider for the tests, on a free port of this machine. Prints its URL when it listens.
//
// Beyond the provider itself: POST /-/rotate replaces its keys; POST /-/sign signs any claims with them, with the
// algorithm and the header of the body; GET /-/fetched counts the requests of its keys; POST /-/down and /-/up.
import { createServer } from "node:http";
import { text } from "node:stream/consumers";
import { exportJWK, generateKeyPair, importJWK, SignJWT } from "jose";
import { Provider } from "oidc-provider";

const ALGORITHMS = ["RS256", "ES256", "EdDSA"];
const redirects = process.argv.slice(2);
const server = createServer(answer);
let keys, provider, handle, down = false, fetched = 0;

function client(id, more) {
  return { client_id: id, redirect_uris: redirects, grant_types: ["authorization_code"], response_types: ["code"], ...more };
}

async function newKey(alg) {
  const { privateKey } = await generateKeyPair(alg, { extractable: true });
  return { ...(await exportJWK(privateKey)), alg, use: "sig", kid: crypto.randomUUID() };
}

async function rotate() {
  keys = await Promise.all(ALGORITHMS.map(newKey));
  const none = { token_endpoint_auth_method: "none" };
  provider = new Provider(issuer(), {
    jwks: { keys },
    clients: [
      client("gallery", { client_secret: "a secret: with +signs% & more" }),
      client("public-es", { ...none, id_token_signed_response_alg: "ES256" }),
      client("public-ed", { ...none, id_token_signed_response_alg: "EdDSA" }),
    ],
    claims: { openid: ["sub"], profile: ["name"], email: ["email", "email_verified"] },
    // An account is its name: "ada" is Ada with a verified address, and "unverified" has not verified hers.
    findAccount: (_, sub) => ({
      accountId: sub,
      claims: () => ({
        sub,
        name: sub[0].toUpperCase() + sub.slice(1),
        email: `${sub}@example.com`,
        email_verified: sub !== "unverified",
      }),
    }),
    enabledJWA: { idTokenSigningAlgValues: ALGORITHMS },
    cookies: { keys: ["for tests"] },
    ttl: { AccessToken: 600, AuthorizationCode: 60, Grant: 600, IdToken: 600, Interaction: 600, Session: 600 },
  });
  handle = provider.callback();
}

async function sign({ alg, header, claims }) {
  const key = keys.find((each) => each.alg === alg);
  return await new SignJWT(claims).setProtectedHeader({ alg, kid: key.kid, ...header }).sign(await importJWK(key, alg));
}

async function answer(request, response) {
  if (request.url === "/-/up" || request.url === "/-/down") down = request.url === "/-/down";
  else if (request.url === "/-/fetched") return response.end(String(fetched));
  else if (request.url === "/-/rotate") await rotate();
  else if (request.url === "/-/sign") return response.end(await sign(JSON.parse(await text(request))));
  else {
    if (request.url === "/jwks") fetched += 1;
    if (down) return request.socket.destroy();
    return handle(request, response);
  }
  response.end();
}

function issuer() {
  return `http://127.0.0.1:${server.address().port}`;
}

server.listen(Number(process.env.PORT ?? 0), "127.0.0.1", async () => {
  await rotate();
  console.log(issuer());
});
