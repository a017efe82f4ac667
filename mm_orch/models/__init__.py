"""Where models live: sources, the store on disk, tokenisers and chat templates."""
