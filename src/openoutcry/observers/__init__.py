"""What is seen of a bus from outside its process: the pulse as data, and what one makes of it. No asyncio."""
