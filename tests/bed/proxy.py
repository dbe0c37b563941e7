"""Forwards TCP connections: python3 -m bed.proxy ADDRESS TARGET-PORT PORT. Prints the port it
listens on; PORT 0 is any.

It lets servers that listen on 127.0.0.1 be reached from another network namespace; what happens to the packets on the
way there is another's business.
"""

import asyncio
import sys


async def copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def main(address, target, port):
    async def forward(reader, writer):
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", target)
        except OSError:
            writer.transport.abort()  # nobody listens there: so it seems from here too
            return
        await asyncio.gather(copy(reader, to_writer), copy(to_reader, writer))

    server = await asyncio.start_server(forward, address, port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
